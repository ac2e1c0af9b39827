"""What type of medium some bytes are, whatever somebody declares them to be."""

import re

SNIFF_LENGTH = 512
"""How many of the first bytes decide: no more are looked at, so a stream and a stored file get the same answer."""

OCTET_STREAM = "application/octet-stream"

# Signatures as in the WHATWG's MIME Sniffing standard, longer where its own are also how a text may begin (BM, ID3),
# and those of further formats that chats carry. All match at the first byte.
_SIGNATURES = tuple(
    (re.compile(pattern, re.DOTALL), content_type)
    for pattern, content_type in (
        (rb"\xff\xd8\xff", "image/jpeg"),
        (rb"\x89PNG\r\n\x1a\n", "image/png"),
        (rb"GIF8[79]a", "image/gif"),
        (rb"RIFF.{4}WEBPVP", "image/webp"),
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "image/bmp"),
        (rb"II\*\0|MM\0\*", "image/tiff"),
        (rb"RIFF.{4}WAVE", "audio/wav"),
        (rb"RIFF.{4}AVI ", "video/x-msvideo"),
        (rb"FORM.{4}AIF[CF]", "audio/aiff"),
        (rb"fLaC", "audio/flac"),
        (rb"MThd\0\0\0\x06", "audio/midi"),
        (rb"#!AMR\n", "audio/amr"),
        (rb"#!AMR-WB\n", "audio/amr-wb"),
        (rb"ID3[\x02-\x04][^\xff].[\0-\x7f]{4}", "audio/mpeg"),
        (rb"OggS.*\x80theora", "video/ogg"),
        (rb"OggS.*(?:OpusHead|\x01vorbis|\x7fFLAC|Speex   )", "audio/ogg"),
        (rb"OggS\0", "application/ogg"),
        (rb"\x1aE\xdf\xa3.*?\x42\x82.{1,8}webm", "video/webm"),
        (rb"\x1aE\xdf\xa3.*?\x42\x82.{1,8}matroska", "video/x-matroska"),
        (rb"%PDF-", "application/pdf"),
        (rb"%!PS-Adobe-", "application/postscript"),
        (rb"PK(?:\x03\x04|\x05\x06)", "application/zip"),
        (rb"Rar!\x1a\x07", "application/vnd.rar"),
        (rb"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (rb"\x1f\x8b\x08", "application/gzip"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),  # Office before 2007
    )
)

# A tag's name ends where an HTML parser would end it, and a byte order mark hides nothing.
_PROLOG = rb"(?:(?>\s+|<\?.*?\?>|<!--.*?-->))*+"
_MARKUP = tuple(
    (re.compile(rb"(?:\xef\xbb\xbf)?+[\t\n\f\r ]*+" + pattern, re.DOTALL | re.IGNORECASE), content_type)
    for pattern, content_type in (
        (_PROLOG + rb"<(?:!DOCTYPE\s+)?svg[\s/>]", "image/svg+xml"),
        (
            rb"<(?:!DOCTYPE\s+HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P)[\s/>]|<!--",
            "text/html",
        ),
        (rb"<\?xml", "text/xml"),
    )
)

# An ISO base media file names its brands in a first box, "ftyp" (ISO/IEC 14496-12 §4.3).
# The order of the rows decides between several: images, then structural brands, then what may accompany them.
_BRANDS = tuple(
    (re.compile(pattern), content_type)
    for pattern, content_type in (
        (rb"avi[fs]", "image/avif"),
        (rb"hei[cxms]", "image/heic"),
        (rb"hev[cxms]", "image/heic-sequence"),
        (rb"mif1", "image/heif"),
        (rb"msf1", "image/heif-sequence"),
        (rb"M4[ABP] ", "audio/mp4"),
        (rb"mp4.|iso.|avc1|M4V.|dash|MSNV|mmp4|f4v ", "video/mp4"),
        (rb"qt  ", "video/quicktime"),
        (rb"3g2.", "video/3gpp2"),
        (rb"3g[a-z].", "video/3gpp"),
    )
)
_STRUCTURAL_BRANDS = frozenset({b"mif1", b"msf1"})  # HEIF, but not how its images are coded: other brands say that

_MPEG1_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_HERTZ = (44100, 48000, 32000)
# By the version bits of a header: bit rates, divisor of the sampling rates, and an eighth of a frame's samples.
_MP3_VERSIONS = {3: (_MPEG1_KBPS, 1, 144), 2: (_MPEG2_KBPS, 2, 72), 0: (_MPEG2_KBPS, 4, 72)}
_ADTS_FREQUENCIES = 13  # the rest of the four bits is reserved
_FRAME_HEADER_LENGTH = 7  # bytes; of ADTS without a checksum, the longer of the two
_MP3_HEADER = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef].", re.DOTALL)  # ISO/IEC 11172-3, layer III
_ADTS_HEADER = re.compile(rb"\xff[\xf0\xf1\xf8\xf9].{5}", re.DOTALL)  # ISO/IEC 13818-7 §6.2

# Other declared types that may be right too: what a container can hold, and formats that build upon another.
_CONSISTENT = {
    sniffed: re.compile(declared)
    for sniffed, declared in {
        "image/png": r"image/apng",
        "image/heic": r"image/(?:heif|heic-sequence|heif-sequence)",
        "image/heic-sequence": r"image/(?:heic|heif|heif-sequence)",
        "image/heif": r"image/(?:heic|avif)",
        "image/heif-sequence": r"image/(?:heic|heif|avif|heic-sequence)",
        "video/mp4": r"(?:audio|video)/(?:mp4|3gpp|3gpp2)|video/(?:quicktime|x-m4v)",
        "video/3gpp": r"(?:audio|video)/mp4|audio/3gpp",
        "video/3gpp2": r"audio/3gpp2",
        "video/webm": r"audio/webm",
        "video/x-matroska": r"(?:audio|video)/matroska|audio/x-matroska",
        "application/ogg": r"(?:audio|video)/ogg",
        "application/zip": r"application/(?:vnd\..+|java-archive|.+\+zip)",
        "application/x-ole-storage": r"application/(?:vnd\..+|msword)",
        "application/gzip": r"application/x-(?:gzip|tgz|gtar|compressed-tar)",
        "text/html": r"text/.+|application/(?:xml|.+\+xml)",
        "text/xml": r"text/.+|application/xml|.+\+xml",
        "image/svg+xml": r"text/.+|application/xml|.+\+xml",
    }.items()
}
# Containers whose first bytes do not tell whether there are pictures: the declared kind decides.
_AUDIO_TWINS = {
    "video/mp4": "audio/mp4",
    "video/3gpp": "audio/3gpp",
    "video/3gpp2": "audio/3gpp2",
    "video/webm": "audio/webm",
    "video/x-matroska": "audio/x-matroska",
    "application/ogg": "audio/ogg",
}
_ALIASES = frozenset(
    {"image/jpg", "image/pjpeg", "image/apng", "image/x-ms-bmp", "video/avi", "video/x-m4v", "video/matroska"}
    | {"audio/mp3", "audio/m4a", "audio/x-m4a", "audio/wave", "audio/x-wav", "audio/x-aac", "audio/opus"},
)
_RECOGNISABLE_MEDIA = frozenset(
    content_type
    for content_type in (*(row[1] for row in (*_SIGNATURES, *_MARKUP, *_BRANDS)), *_AUDIO_TWINS.values(), *_ALIASES)
    if content_type.startswith(("image/", "audio/", "video/"))
) | {"audio/aac"}
_UNKNOWN_TYPES = frozenset({OCTET_STREAM, "binary/octet-stream", "application/unknown", "unknown/unknown"})

_MAX_TYPE_LENGTH = 255  # characters
_NAME = r"[0-9A-Za-z][0-9A-Za-z!#$&^_.+-]{0,126}"  # RFC 6838 §4.2: a token, but no wildcard
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - RFC 9110 §5.6.2, no secret
_PARAMETER = re.compile(rf'({_TOKEN})=({_TOKEN}|"(?:[ !#-\[\]-~]|\\[ -~])*+")')
_MEDIA_TYPE = re.compile(rf"({_NAME}/{_NAME})((?:[ \t]*+;[ \t]*+(?:{_PARAMETER.pattern})?+)*+)[ \t]*+")


def sniff(prefix: bytes) -> str | None:
    """Return the type that the first bytes of a medium show, None where they show none.

    Plain text is not recognised: nothing in it says whether it is a table, a program or a letter.

    Args:
        prefix: The first `SNIFF_LENGTH` bytes (more are ignored), or all of a shorter medium.
    """
    header = prefix[:SNIFF_LENGTH]
    by_pattern = (content_type for pattern, content_type in (*_SIGNATURES, *_MARKUP) if pattern.match(header))
    return next(by_pattern, None) or _sniff_brands(header) or _sniff_frames(header)


def effective_type(declared: str | None, prefix: bytes) -> str:
    """Return the type to serve a medium as: the declared one unless the bytes contradict it, else the sniffed one.

    Always a media type in one normal form (``audio/ogg; codecs=opus``) of visible ASCII and spaces, at most 255
    characters long. Bytes without the signature that the declared image, audio or video type has, and bytes of which
    nobody knows anything, are ``application/octet-stream``. Markup that is declared as a kind of text stays that: it is
    right for source code, and gives a browser nothing more to run.

    Args:
        declared: As the sender gave it, untrusted (RFC 9110 §8.3.1).
        prefix: As for `sniff`.
    """
    sniffed = sniff(prefix)
    media_type = _normalise(declared or "")
    named = essence(media_type)
    if named in _UNKNOWN_TYPES:
        return sniffed or OCTET_STREAM
    if sniffed is None:
        return OCTET_STREAM if named in _RECOGNISABLE_MEDIA else media_type
    if named == sniffed or (sniffed in _CONSISTENT and _CONSISTENT[sniffed].fullmatch(named)):
        return media_type
    return _AUDIO_TWINS.get(sniffed, sniffed) if named.startswith("audio/") else sniffed


def essence(content_type: str) -> str:
    """Return a media type in the form of `effective_type` without its parameters."""
    return content_type.partition(";")[0]


def declared_type(declared: str | None) -> str:
    """Return what a sender declares in the form of `effective_type`, where nobody has seen the bytes yet."""
    return _normalise(declared or "")


def _sniff_brands(header: bytes) -> str | None:
    """Go by the major brand, and where that is unknown or structural by all of them."""
    if header[4:8] != b"ftyp":
        return None
    stop = min(int.from_bytes(header[:4], "big"), len(header))
    major, compatible = header[8:12], [header[offset : offset + 4] for offset in range(16, stop, 4)]
    named = _type_of_brands([major]) if major not in _STRUCTURAL_BRANDS else None
    return named or _type_of_brands([major, *compatible])


def _type_of_brands(brands: list[bytes]) -> str | None:
    return next((content_type for pattern, content_type in _BRANDS if any(map(pattern.fullmatch, brands))), None)


def _sniff_frames(header: bytes) -> str | None:
    """Recognise audio without a container by a frame's header, and the next one's where that is in sight."""
    for frame_length, content_type in ((_mp3_frame_length, "audio/mpeg"), (_adts_frame_length, "audio/aac")):
        length = frame_length(header)
        following = header[length:] if length else b""
        if length and (len(following) < _FRAME_HEADER_LENGTH or frame_length(following)):
            return content_type
    return None


def _mp3_frame_length(data: bytes) -> int | None:
    """Return the length of the MPEG audio layer III frame that begins here, in bytes."""
    if not _MP3_HEADER.match(data):
        return None
    version, bitrate, frequency, padding = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3, data[2] >> 1 & 1
    if frequency == len(_MPEG1_HERTZ):
        return None
    kbps, divisor, slots = _MP3_VERSIONS[version]
    return slots * kbps[bitrate - 1] * 1000 // (_MPEG1_HERTZ[frequency] // divisor) + padding


def _adts_frame_length(data: bytes) -> int | None:
    """Return the length of the AAC frame that begins here, in bytes."""
    if not _ADTS_HEADER.match(data):
        return None
    frequency, length = data[2] >> 2 & 15, (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    return length if frequency < _ADTS_FREQUENCIES and length >= _FRAME_HEADER_LENGTH else None


def _normalise(declared: str) -> str:
    """Write a media type in its one normal form; `OCTET_STREAM` where it is malformed or too long."""
    match = _MEDIA_TYPE.fullmatch(declared.strip(" \t"))
    if match is None:
        return OCTET_STREAM
    parameters = (f"; {name.lower()}={_value(raw)}" for name, raw in _PARAMETER.findall(match[2]))
    media_type = match[1].lower() + "".join(parameters)
    return media_type if len(media_type) <= _MAX_TYPE_LENGTH else OCTET_STREAM


def _value(raw: str) -> str:
    """Take the quotes off a parameter's value where it does not need them."""
    value = re.sub(r"\\(.)", r"\1", raw[1:-1]) if raw.startswith('"') else raw
    if re.fullmatch(_TOKEN, value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
