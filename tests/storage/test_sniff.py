"""Sniffing: bytes as real encoders write them, signatures by hand, and what becomes of a declared type."""

import io
import zipfile

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage.sniff import SNIFF_LENGTH, effective_type, sniff

OCTET_STREAM = "application/octet-stream"


def picture(image_format: str) -> bytes:
    """Encode a small picture."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(file, image_format)
    return file.getvalue()


def film(container_format: str, codec: str) -> bytes:
    """Encode two frames."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=5, width=176, height=144, pix_fmt="yuv420p")
        assert isinstance(stream, av.VideoStream)
        for pts in range(2):
            frame = av.VideoFrame(176, 144, "yuv420p")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def sound(container_format: str, codec: str, rate: int, *, bit_rate: int = 32_000, bare: bool = False) -> bytes:
    """Encode half a second of silence; ``bare``: an MP3 without tags."""
    options = {"write_xing": "0", "id3v2_version": "0"} if bare else None
    file = io.BytesIO()
    with av.open(file, "w", format=container_format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame(format=stream.format.name, layout="mono", samples=rate // 2)
        frame.sample_rate, frame.pts = rate, 0
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def archive() -> bytes:
    """Zip one file, as OOXML does."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as container:
        container.writestr("[Content_Types].xml", "<Types/>")
    return file.getvalue()


def brands(*names: bytes) -> bytes:
    """Write a file type box: a major brand, and the compatible ones after its version."""
    box = b"ftyp" + names[0] + bytes(4) + b"".join(names[1:])
    return (len(box) + 4).to_bytes(4, "big") + box + b"\0\0\0\x08free"


ENCODED = [
    pytest.param(picture("JPEG"), "image/jpeg", id="JPEG"),
    pytest.param(picture("PNG"), "image/png", id="PNG"),
    pytest.param(picture("GIF"), "image/gif", id="GIF"),
    pytest.param(picture("WEBP"), "image/webp", id="WebP"),
    pytest.param(picture("AVIF"), "image/avif", id="AVIF"),
    pytest.param(picture("BMP"), "image/bmp", id="BMP"),
    pytest.param(picture("TIFF"), "image/tiff", id="TIFF"),
    pytest.param(picture("PDF"), "application/pdf", id="PDF"),
    pytest.param(film("mp4", "libx264"), "video/mp4", id="MP4"),
    pytest.param(film("mov", "libx264"), "video/quicktime", id="QuickTime"),
    pytest.param(film("3gp", "mpeg4"), "video/3gpp", id="3GPP"),
    pytest.param(film("3g2", "mpeg4"), "video/3gpp2", id="3GPP2"),
    pytest.param(film("webm", "libvpx"), "video/webm", id="WebM"),
    pytest.param(film("matroska", "libx264"), "video/x-matroska", id="Matroska"),
    pytest.param(film("avi", "mpeg4"), "video/x-msvideo", id="AVI"),
    pytest.param(sound("ogg", "libopus", 48000), "audio/ogg", id="Ogg Opus"),
    pytest.param(sound("ogg", "flac", 48000), "audio/ogg", id="Ogg FLAC"),
    pytest.param(sound("ipod", "aac", 44100), "audio/mp4", id="M4A"),
    pytest.param(sound("mp4", "aac", 44100), "video/mp4", id="MP4 with sound only: its brand does not say so"),
    pytest.param(sound("mp3", "libmp3lame", 44100), "audio/mpeg", id="MP3 with ID3"),
    pytest.param(sound("mp3", "libmp3lame", 44100, bare=True), "audio/mpeg", id="MP3 of MPEG 1"),
    pytest.param(sound("mp3", "libmp3lame", 44100, bit_rate=320_000, bare=True), "audio/mpeg", id="MP3 of long frames"),
    pytest.param(sound("mp3", "libmp3lame", 22050, bare=True), "audio/mpeg", id="MP3 of MPEG 2"),
    pytest.param(sound("mp3", "libmp3lame", 11025, bare=True), "audio/mpeg", id="MP3 of MPEG 2.5"),
    pytest.param(sound("adts", "aac", 44100), "audio/aac", id="AAC"),
    pytest.param(sound("amr", "libopencore_amrnb", 8000, bit_rate=12_200), "audio/amr", id="AMR"),
    pytest.param(sound("wav", "pcm_s16le", 8000), "audio/wav", id="WAV"),
    pytest.param(sound("aiff", "pcm_s16be", 8000), "audio/aiff", id="AIFF"),
    pytest.param(sound("flac", "flac", 44100), "audio/flac", id="FLAC"),
    pytest.param(archive(), "application/zip", id="ZIP"),
]

SIGNED = [
    # ISO/IEC 23008-12: brands of HEIF
    pytest.param(brands(b"heic", b"mif1", b"heic"), "image/heic", id="HEIC of an iPhone"),
    pytest.param(brands(b"mif1", b"mif1", b"iso8", b"heic"), "image/heic", id="HEIC behind a structural brand"),
    pytest.param(brands(b"mif1", b"mif1", b"miaf"), "image/heif", id="HEIF of unknown coding"),
    pytest.param(brands(b"mif1", b"avif", b"miaf"), "image/avif", id="AVIF behind a structural brand"),
    pytest.param(brands(b"avis", b"msf1", b"iso8"), "image/avif", id="animated AVIF"),
    pytest.param(brands(b"msf1", b"hevc", b"iso8"), "image/heic-sequence", id="HEIC sequence"),
    # ISO/IEC 14496-12: brands of films
    pytest.param(brands(b"mp42", b"mp41", b"isom"), "video/mp4", id="MP4 version 2"),
    pytest.param(brands(b"isom", b"3gp4"), "video/mp4", id="MP4 of an Android phone, the major brand decides"),
    pytest.param(brands(b"3gp5", b"isom"), "video/3gpp", id="3GPP release 5"),
    pytest.param(brands(b"XAVC", b"XAVC", b"mp42"), "video/mp4", id="an unknown major brand, a known compatible one"),
    pytest.param(brands(b"M4B ", b"M4A ", b"mp42"), "audio/mp4", id="audio book"),
    pytest.param(brands(b"crx ", b"crx "), None, id="unknown brands"),
    pytest.param(b"\0\0\0\x14ftypcrx \0\0\0\0crx \0\0\0\x08mp42", None, id="a brand after the end of the box"),
    pytest.param(b"\0\0\0\x18ftyp", None, id="a box that breaks off"),
    pytest.param(b"OggS\0\x02" + bytes(22) + b"\x80theora", "video/ogg", id="Ogg Theora"),
    pytest.param(b"OggS\0\x02" + bytes(22) + b"\x01vorbis", "audio/ogg", id="Ogg Vorbis"),
    pytest.param(b"OggS\0\x02" + bytes(100), "application/ogg", id="Ogg of unknown coding"),
    pytest.param(b"#!AMR-WB\n\x04", "audio/amr-wb", id="AMR wide band"),
    pytest.param(b"MThd\0\0\0\x06\0\x01", "audio/midi", id="MIDI"),
    pytest.param(b"%!PS-Adobe-3.0", "application/postscript", id="PostScript"),
    pytest.param(b"PK\x05\x06" + bytes(18), "application/zip", id="empty ZIP"),
    pytest.param(b"Rar!\x1a\x07\x01\0", "application/vnd.rar", id="RAR"),
    pytest.param(b"7z\xbc\xaf\x27\x1c\0\x04", "application/x-7z-compressed", id="7z"),
    pytest.param(b"\x1f\x8b\x08\0", "application/gzip", id="gzip"),
    pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage", id="Office before 2007"),
    # WHATWG MIME Sniffing §7.1: markup
    pytest.param(b"<!DOCTYPE html><p>", "text/html", id="HTML"),
    pytest.param(b" \t\r\n\x0c<!doctype HTML >", "text/html", id="HTML after white space, in any case"),
    pytest.param(b"\xef\xbb\xbf<html>", "text/html", id="HTML after a byte order mark"),
    pytest.param(b"<script>alert(1)</script>", "text/html", id="HTML by a script"),
    pytest.param(b"<SCRIPT\nsrc=x>", "text/html", id="HTML by a tag that a line feed ends"),
    pytest.param(b"<script/x>", "text/html", id="HTML by a tag that a slash ends"),
    pytest.param(b"<iframe src=x>", "text/html", id="HTML by a frame"),
    pytest.param(b"<!-- a comment -->", "text/html", id="HTML by a comment"),
    pytest.param(b"<b>bold</b>", "text/html", id="HTML by a short tag"),
    pytest.param(b"<bank>", None, id="a longer tag"),
    pytest.param(b"<html", None, id="a tag without an end"),
    pytest.param(b"x<html>", None, id="text before the markup"),
    pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'>", "image/svg+xml", id="SVG"),
    pytest.param(b"<svg/onload=alert(1)>", "image/svg+xml", id="SVG with a slash for a space"),
    pytest.param(b"<?xml version='1.0'?>\n<!-- x --> <svg >", "image/svg+xml", id="SVG after a prologue"),
    pytest.param(b"<!-- x --><!-- y --><svg>", "image/svg+xml", id="SVG after comments"),
    pytest.param(b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN">', "image/svg+xml", id="SVG by its doctype"),
    pytest.param(b"<?xml version='1.0'?><note/>", "text/xml", id="XML"),
    pytest.param(b"<?xml version='1.0'?>" + b" " * SNIFF_LENGTH + b"<svg>", "text/xml", id="SVG out of sight"),
    # ISO/IEC 11172-3 §2.4.3.1: 144 * 128,000 / 44,100 = 417 bytes, and one of padding
    pytest.param((b"\xff\xfb\x90\x00" + bytes(413)) * 2, "audio/mpeg", id="two MP3 frames"),
    pytest.param((b"\xff\xfb\x92\x00" + bytes(414)) * 2, "audio/mpeg", id="two MP3 frames with padding"),
    # what only looks like a signature
    pytest.param(b"BMW and other cars", None, id="a text that begins like a BMP"),
    pytest.param(b"ID3 tags explained", None, id="a text that begins like an MP3"),
    pytest.param("\ufeffhello".encode("utf-16-le"), None, id="UTF-16, whose mark looks like a frame of MPEG layer I"),
    pytest.param(b"\xff\xfb\x90\x00" + bytes(500), None, id="a header of an MP3 without a second one"),
    pytest.param(b"\xff\xf1\x50\x40\x03\x9f\xfc" + bytes(200), None, id="a header of AAC without a second one"),
    pytest.param(b"\xff\xf1\x74\x40\x03\x9f\xfc", None, id="AAC of a reserved sampling rate"),
    pytest.param(b"\xff\xfb\x9c\x00", None, id="MP3 of a reserved sampling rate"),
    pytest.param(b"\xff\xfb\xf0\x00", None, id="MP3 of a forbidden bit rate"),
    pytest.param(b"RIFF\0\0\0\0ACON", None, id="another RIFF"),
    pytest.param(b"MZ\x90\0", None, id="a Windows program"),
    pytest.param(b"Dear Sir or Madam,", None, id="a letter"),
    pytest.param(bytes(SNIFF_LENGTH), None, id="zeros"),
    pytest.param(b"", None, id="nothing"),
]


@pytest.mark.parametrize(("content", "expected"), [*ENCODED, *SIGNED])
def test_bytes_show_their_type(content: bytes, expected: str | None) -> None:
    assert sniff(content) == expected


@pytest.mark.parametrize(("content", "expected"), ENCODED)
def test_a_medium_keeps_the_type_that_its_bytes_show(content: bytes, expected: str) -> None:
    assert effective_type(expected, content) == expected
    assert effective_type(None, content) == expected
    assert effective_type(OCTET_STREAM, content) == expected


JPEG, PNG = b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"
OPUS = b"OggS\0\x02" + bytes(22) + b"OpusHead"
ID3 = b"ID3\x04\0\0\0\0\0\x23"
ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ISO, M4A, QT, GP3 = (
    brands(b"isom", b"mp41"),
    brands(b"M4A ", b"isom"),
    brands(b"qt  ", b"qt  "),
    brands(b"3gp4", b"isom"),
)
WEBM = b"\x1aE\xdf\xa3\x87\x42\x82\x84webm"
HTML, SVG, XML = b"<html><script>", b"<svg onload='x'>", b"<?xml version='1.0'?>"
TEXT = b"name,amount\r\n"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

DECLARED = [
    # what the bytes agree with is kept
    pytest.param("image/jpeg", JPEG, "image/jpeg", id="the same"),
    pytest.param("audio/ogg; codecs=opus", OPUS, "audio/ogg; codecs=opus", id="a voice note keeps its codec"),
    pytest.param("audio/ogg", OPUS, "audio/ogg", id="a voice note without its codec"),
    pytest.param("image/apng", PNG, "image/apng", id="animated PNG"),
    pytest.param("audio/mp4", ISO, "audio/mp4", id="sound in MP4 with a general brand"),
    pytest.param("video/quicktime", ISO, "video/quicktime", id="QuickTime with a general brand"),
    pytest.param("video/3gpp", ISO, "video/3gpp", id="3GPP with a general brand"),
    pytest.param("video/mp4", GP3, "video/mp4", id="3GPP is an MP4 with limits"),
    pytest.param("application/gpx+xml", b"<!-- x --><gpx>", "application/gpx+xml", id="XML that begins with a comment"),
    pytest.param("audio/3gpp", GP3, "audio/3gpp", id="sound in 3GPP"),
    pytest.param("audio/webm", WEBM, "audio/webm", id="sound in WebM"),
    pytest.param("image/heif", brands(b"heic"), "image/heif", id="HEIC is a HEIF"),
    pytest.param(DOCX, ZIP, DOCX, id="OOXML is a ZIP"),
    pytest.param("application/epub+zip", ZIP, "application/epub+zip", id="+zip is a ZIP"),
    pytest.param("application/vnd.android.package-archive", ZIP, "application/vnd.android.package-archive", id="APK"),
    pytest.param("application/msword", OLE, "application/msword", id="Word before 2007"),
    pytest.param("application/vnd.ms-excel", OLE, "application/vnd.ms-excel", id="Excel before 2007"),
    pytest.param("text/plain", TEXT, "text/plain", id="plain text"),
    pytest.param("text/csv", TEXT, "text/csv", id="a table"),
    pytest.param("application/json", b"{}", "application/json", id="JSON"),
    pytest.param("application/x-unheard-of", b"\x01\x02", "application/x-unheard-of", id="a type nobody knows"),
    pytest.param("image/x-unheard-of", b"\x01\x02", "image/x-unheard-of", id="a picture nobody knows"),
    pytest.param("text/plain", HTML, "text/plain", id="markup declared as text is not promoted"),
    pytest.param("application/xhtml+xml", HTML, "application/xhtml+xml", id="XHTML"),
    pytest.param("application/gpx+xml", XML, "application/gpx+xml", id="+xml is XML"),
    pytest.param("image/svg+xml", XML, "image/svg+xml", id="SVG whose root is further down"),
    # what they contradict is replaced
    pytest.param("image/jpeg", PNG, "image/png", id="PNG as JPEG"),
    pytest.param("image/jpg", JPEG, "image/jpeg", id="a name that was never registered"),
    pytest.param("audio/mp3", ID3, "audio/mpeg", id="another such name"),
    pytest.param("image/jpeg", HTML, "text/html", id="HTML as JPEG"),
    pytest.param("image/svg+xml", HTML, "text/html", id="HTML as SVG"),
    pytest.param("image/png", SVG, "image/svg+xml", id="SVG as PNG"),
    pytest.param("video/mp4", XML, "text/xml", id="XML as MP4"),
    pytest.param("application/pdf", HTML, "text/html", id="HTML as PDF"),
    pytest.param(DOCX, HTML, "text/html", id="HTML as OOXML"),
    pytest.param("text/plain", PNG, "image/png", id="PNG as text"),
    pytest.param("text/html", JPEG, "image/jpeg", id="JPEG as HTML"),
    pytest.param("image/jpeg", ZIP, "application/zip", id="ZIP as JPEG"),
    pytest.param("video/mp4", QT, "video/quicktime", id="QuickTime as MP4"),
    pytest.param("video/mp4", M4A, "audio/mp4", id="M4A as a film"),
    pytest.param("audio/aac", M4A, "audio/mp4", id="M4A as bare AAC"),
    pytest.param("audio/opus", OPUS, "audio/ogg", id="Ogg Opus as RTP payload"),
    pytest.param("audio/aac", ISO, "audio/mp4", id="the container is another, the kind stays sound"),
    pytest.param("audio/mpeg", WEBM, "audio/webm", id="the same with WebM"),
    # a signature is missing
    pytest.param("image/jpeg", TEXT, OCTET_STREAM, id="text as JPEG"),
    pytest.param("image/jpg", TEXT, OCTET_STREAM, id="text as JPEG by another name"),
    pytest.param("audio/aac", TEXT, OCTET_STREAM, id="text as AAC"),
    pytest.param("video/mp4", b"", OCTET_STREAM, id="nothing as MP4"),
    pytest.param("image/svg+xml", TEXT, OCTET_STREAM, id="text as SVG"),
    # nothing is declared, or nothing that says anything
    pytest.param(None, TEXT, OCTET_STREAM, id="nothing known"),
    pytest.param(None, JPEG, "image/jpeg", id="nothing declared"),
    pytest.param("", JPEG, "image/jpeg", id="an empty declaration"),
    pytest.param("binary/octet-stream", JPEG, "image/jpeg", id="what S3 says by default"),
    pytest.param("application/octet-stream; x=y", JPEG, "image/jpeg", id="octets with a parameter"),
    # RFC 9110 §8.3.1 the grammar
    pytest.param("Image/JPEG", JPEG, "image/jpeg", id="8.3.1 types are case-insensitive"),
    pytest.param(" text/plain ;\tCharset=UTF-8 ", TEXT, "text/plain; charset=UTF-8", id="8.3.1 values keep their case"),
    pytest.param('text/plain;charset="utf-8"', TEXT, "text/plain; charset=utf-8", id="8.3.1 quotes without need"),
    pytest.param('a/b; c="d \\"e\\\\"', TEXT, 'a/b; c="d \\"e\\\\"', id="5.6.4 quotes with need"),
    pytest.param('a/b; c=""', TEXT, 'a/b; c=""', id="5.6.4 an empty value"),
    pytest.param("text/plain;;charset=utf-8;", TEXT, "text/plain; charset=utf-8", id="5.6.6 empty parameters"),
    pytest.param("text", TEXT, OCTET_STREAM, id="8.3.1 no subtype"),
    pytest.param("text/", TEXT, OCTET_STREAM, id="8.3.1 an empty subtype"),
    pytest.param("text/*", TEXT, OCTET_STREAM, id="12.5.1 a wildcard is for Accept"),
    pytest.param("text/plain; charset", TEXT, OCTET_STREAM, id="5.6.6 a parameter without a value"),
    pytest.param("text/plain; charset = utf-8", TEXT, OCTET_STREAM, id="5.6.6 no white space around ="),
    pytest.param("text/plain, text/html", TEXT, OCTET_STREAM, id="8.3 two types"),
    pytest.param("text/plain\r\nX: y", TEXT, OCTET_STREAM, id="5.5 a line break"),
    pytest.param("text/plain\n", TEXT, OCTET_STREAM, id="5.5 a line feed at the end ($)"),
    pytest.param('text/plain; a="b\r\nX: y"', TEXT, OCTET_STREAM, id="5.6.4 a line break in quotes"),
    pytest.param('text/plain; a="b', TEXT, OCTET_STREAM, id="5.6.4 no closing quote"),
    pytest.param("text/plàin", TEXT, OCTET_STREAM, id="5.6.2 tokens are ASCII"),
    pytest.param("text/" + "a" * 300, TEXT, OCTET_STREAM, id="RFC 6838 4.2 a name too long"),
    pytest.param("text/plain; a=" + "b" * 300, TEXT, OCTET_STREAM, id="a declaration too long"),
]


@pytest.mark.parametrize(("declared", "content", "expected"), DECLARED)
def test_a_declared_type_is_kept_unless_the_bytes_contradict_it(
    declared: str | None, content: bytes, expected: str
) -> None:
    assert effective_type(declared, content) == expected


@pytest.mark.parametrize("hostile", [b"<?>", b"<!---->", b"<?", b" ", b"<!--", b"<", b"<svg", b"\x42\x82", b"OggS"])
@pytest.mark.timeout(5)
def test_hostile_bytes_cost_little_time(hostile: bytes) -> None:
    for start in (b"", b"\x1aE\xdf\xa3", b"OggS", b"\0\0\0\0ftyp"):
        sniff(start + hostile * 1_000_000)


@pytest.mark.parametrize("hostile", ["; ", ";", " ", 'a/b;c="', "a/b;c=d", "\\", "a/", 'a/b;c="\\'])
@pytest.mark.timeout(5)
def test_a_hostile_declaration_costs_linear_time(hostile: str) -> None:
    assert effective_type("a/b" + hostile * 100_000, b"") in {"a/b", OCTET_STREAM}


STARTS = st.sampled_from(
    [JPEG, PNG, OPUS, ID3, ZIP, ISO, M4A, GP3, WEBM, HTML, SVG, XML, TEXT, b"\xff\xfb", b"\xff\xf1"]
)
CONTENTS = st.tuples(STARTS | st.just(b""), st.binary(max_size=2 * SNIFF_LENGTH)).map(b"".join)
DECLARATIONS = st.none() | st.text() | st.sampled_from([row.values[0] for row in DECLARED])


@given(content=CONTENTS, declared=DECLARATIONS)
def test_the_first_bytes_alone_decide(content: bytes, declared: str | None) -> None:
    assert effective_type(declared, content) == effective_type(declared, content[:SNIFF_LENGTH])


@given(content=CONTENTS, declared=DECLARATIONS)
def test_a_type_is_always_fit_for_a_header_and_final(content: bytes, declared: str | None) -> None:
    content_type = effective_type(declared, content)
    assert content_type.isascii()
    assert content_type.isprintable()
    assert 3 <= len(content_type) <= 255
    assert effective_type(content_type, content) == content_type


@given(content=CONTENTS, declared=st.sampled_from(["image/jpeg", "video/webm", "audio/mpeg", "audio/aac"]))
def test_what_is_served_as_a_common_medium_has_its_signature(content: bytes, declared: str) -> None:
    if effective_type(declared, content) == declared:
        assert sniff(content) == declared
