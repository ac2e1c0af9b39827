"""The demo's samples are what they claim to be, and its page asks nobody but the gateway."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import av
import pypdfium2
import pytest
from PIL import Image, ImageOps

from gateway.demo.samples import HERE, PHOTOS, VOICE_NOTE, Sample, build_samples

KILOBYTE, MEGABYTE = 1024, 1024 * 1024


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return build_samples(tmp_path_factory.mktemp("samples"))


def of_kind(samples: list[Sample], kind: str) -> list[Sample]:
    return [sample for sample in samples if sample.kind == kind]


def top_level_boxes(path: Path) -> Iterator[str]:
    """Yield the types of an MP4's boxes in their order (ISO/IEC 14496-12, section 4.2)."""
    data = path.read_bytes()
    position = 0
    while position < len(data):
        yield data[position + 4 : position + 8].decode("ascii")
        position += int.from_bytes(data[position : position + 4], "big")


def test_the_chat_has_every_kind_and_both_senders(samples: list[Sample]) -> None:
    assert {sample.kind for sample in samples} == {"image", "video", "audio", "document", "sticker"}
    assert {sample.sender for sample in samples} == {"them", "us"}


def test_every_sample_has_a_file_of_its_own(samples: list[Sample]) -> None:
    paths = [sample.path for sample in samples]
    assert len(set(paths)) == len(paths)
    assert all(path.stat().st_size > 0 for path in paths)


def test_only_documents_have_a_name_and_neither_audio_nor_stickers_a_caption(samples: list[Sample]) -> None:
    assert all((sample.filename is not None) == (sample.kind == "document") for sample in samples)
    assert all(sample.caption is None for sample in samples if sample.kind in {"audio", "sticker"})


def test_two_builds_yield_the_same_bytes(samples: list[Sample], tmp_path: Path) -> None:
    again = build_samples(tmp_path)
    assert [sample.path.read_bytes() for sample in again] == [sample.path.read_bytes() for sample in samples]


def test_photographs_are_jpegs_of_a_phone_s_size(samples: list[Sample]) -> None:
    for sample in of_kind(samples, "image"):
        with Image.open(sample.path) as image:
            assert image.get_format_mimetype() == sample.mime_type == "image/jpeg"
            assert 1000 <= max(image.size) <= 1600


def test_one_photograph_is_stored_sideways_as_phones_do(samples: list[Sample]) -> None:
    turned = []
    for sample in of_kind(samples, "image"):
        with Image.open(sample.path) as image:
            if image.getexif().get(0x0112) == 6:  # Exif 2.3, table 4: the 0th row is the right-hand side
                turned.append((image.size, ImageOps.exif_transpose(image).size))
    assert turned == [((1200, 900), (900, 1200))]


def test_the_voice_note_is_mono_opus_in_ogg(samples: list[Sample]) -> None:
    [note] = of_kind(samples, "audio")
    assert note.voice
    assert note.mime_type == "audio/ogg; codecs=opus"
    assert note.path.read_bytes()[28:37] == b"OpusHead\x01"  # RFC 7845, section 5.1
    with av.open(note.path) as container:
        [stream] = container.streams
        samples_decoded = sum(frame.samples for frame in container.decode(audio=0))
        assert (stream.codec_context.name, container.streams.audio[0].layout.name) == ("opus", "mono")
    assert 6 <= samples_decoded / 48_000 <= 10


def test_the_video_is_h264_with_aac_and_can_be_sought_by_the_second(samples: list[Sample]) -> None:
    [video] = of_kind(samples, "video")
    assert video.mime_type == "video/mp4"
    with av.open(video.path) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, picture.width, picture.height) == (
            "h264", "yuv420p", 640, 360,
        )  # fmt: skip
        assert sound.codec_context.name == "aac"
        assert (container.duration or 0) / av.time_base == pytest.approx(12, abs=0.1)
        key_frames = [frame.time for frame in container.decode(video=0) if frame.key_frame]
    assert key_frames == pytest.approx(range(12))


def test_the_index_of_the_video_precedes_its_frames(samples: list[Sample]) -> None:
    [video] = of_kind(samples, "video")
    boxes = list(top_level_boxes(video.path))
    assert boxes.index("moov") < boxes.index("mdat")


def test_stickers_are_transparent_webps_of_512_pixels_one_of_them_in_motion(samples: list[Sample]) -> None:
    frames = []
    for sample in of_kind(samples, "sticker"):
        with Image.open(sample.path) as image:
            assert image.get_format_mimetype() == sample.mime_type == "image/webp"
            assert image.size == (512, 512)
            assert image.convert("RGBA").getpixel((0, 0)) == (0, 0, 0, 0)
            frames.append(getattr(image, "n_frames", 1))
    assert sorted(frames) == [1, 12]


def test_the_document_is_a_pdf_of_two_a4_pages(samples: list[Sample]) -> None:
    [document] = of_kind(samples, "document")
    assert document.mime_type == "application/pdf"
    pdf = pypdfium2.PdfDocument(document.path)
    try:
        sizes = [pdf.get_page_size(number) for number in range(len(pdf))]
    finally:
        pdf.close()
    assert sizes == [pytest.approx((595, 842), abs=1)] * 2


@pytest.mark.parametrize(
    ("kind", "limit"),
    [("video", 2 * MEGABYTE), ("sticker", 500 * KILOBYTE), ("audio", 60 * KILOBYTE), ("document", MEGABYTE)],
)
def test_a_sample_is_small(samples: list[Sample], kind: str, limit: int) -> None:
    assert all(sample.path.stat().st_size <= limit for sample in of_kind(samples, kind))


def test_what_is_committed_is_small() -> None:
    assert sum(photo.stat().st_size for photo in PHOTOS.glob("*.jpg")) <= 700 * KILOBYTE
    assert VOICE_NOTE.stat().st_size <= 60 * KILOBYTE


@pytest.mark.parametrize("photo", sorted(path.name for path in PHOTOS.glob("*.jpg")))
def test_the_licence_of_every_photograph_is_named(photo: str) -> None:
    [row] = [line for line in (PHOTOS / "LICENCES.md").read_text().splitlines() if line.startswith(f"| `{photo}`")]
    assert re.search(r"CC0 1\.0|public domain", row)


class PageParser(HTMLParser):
    """Collects what a page loads or links to, and what a strict content security policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.resources: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.resources += [value for name in ("src", "href", "poster", "action") if (value := values.get(name))]
        self.inline += [f"<{tag} {name}>" for name in values if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in values):
            self.inline.append(f"<{tag}>")


def test_the_page_names_only_its_own_files() -> None:
    parser = PageParser()
    parser.feed((HERE / "page.html").read_text())
    files = [name for name in parser.resources if not name.startswith(("#", "data:"))]
    assert sorted(files) == ["/demo/page.css", "/demo/page.js"]
    assert parser.inline == []


def test_scripts_and_style_name_only_files_of_the_demo() -> None:
    imports = [
        name
        for script in HERE.glob("*.js")
        for name in re.findall(r'(?:from|import)\s*\(?"([^"]+)"', script.read_text())
    ]
    assert imports
    assert all(name.startswith("./") and (HERE / name).is_file() for name in imports)
    for source in (*HERE.glob("*.js"), HERE / "page.css"):
        assert not re.search(r"https?:|//\w+\.|@import|url\(", source.read_text())
