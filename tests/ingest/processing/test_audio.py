"""What is made of a recording, by the contract's table of variants."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from ingest.processing import audio
from ingest.processing.steps import Ceilings, Made, Result, Source
from storage.sniff import sniff
from tests.ingest.processing.recordings import KINDS, SECONDS, Kind, record

TOLERANCE = 0.05  # seconds: an encoder's delay, and what fills its last frame
WITH_COVER = {
    "MP3": KINDS["MP3"],
    "MP4": Kind(".m4a", "mp4", "aac", "aac", "audio/mp4", 44100, 2, 256_000),
    "FLAC": KINDS["FLAC"],
}
EVERY_KIND = pytest.mark.parametrize("name", KINDS)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a player finds in a rendition."""

    streams: list[str]
    codec: str
    channels: int
    seconds: float
    tags: set[str]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("recordings")
    return {name: source(record(folder / f"{name}{kind.suffix}", kind), kind) for name, kind in KINDS.items()}


def source(path: Path, kind: Kind) -> Source:
    return Source(path=path, content_type=kind.content_type, size=path.stat().st_size)


def run(step: str, original: Source, folder: Path) -> Result:
    return next(offered for offered in audio.steps(original, Ceilings()) if offered.name == step).run(folder)


def make(step: str, original: Source, folder: Path) -> Made:
    (made,) = run(step, original, folder).made
    assert made.name == step
    assert made.path.parent == folder
    return made


def hear(path: Path) -> Heard:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(stream))
        return Heard(
            streams=[each.type for each in container.streams],
            codec=stream.codec_context.codec.canonical_name,
            channels=stream.channels,
            seconds=seconds,
            tags=set(container.metadata),
        )


def boxes(data: bytes) -> Iterator[str]:
    """Name the top-level boxes of an ISO base media file (ISO/IEC 14496-12 §4.2)."""
    while data:
        yield data[4:8].decode("ascii")
        data = data[int.from_bytes(data[:4], "big") :]


def test_a_recording_s_facts_come_first_and_its_slowest_rendition_last(originals: dict[str, Source]) -> None:
    steps = audio.steps(originals["MP3"], Ceilings())
    assert [(step.name, step.makes) for step in steps] == [
        ("facts", ()),
        ("waveform", ("waveform",)),
        ("aac", ("aac",)),
        ("compressed", ("compressed",)),
    ]


def test_ogg_opus_stays_as_it_is(originals: dict[str, Source]) -> None:
    steps = audio.steps(originals["voice note"], Ceilings())
    assert [step.name for step in steps] == ["facts", "waveform", "aac"]


@EVERY_KIND
def test_the_facts_are_what_was_recorded(name: str, originals: dict[str, Source], tmp_path: Path) -> None:
    kind = KINDS[name]
    facts = dict(run("facts", originals[name], tmp_path).facts)
    duration, bitrate = facts.pop("duration"), facts.pop("bitrate")
    assert duration == pytest.approx(SECONDS, abs=TOLERANCE)
    assert bitrate == pytest.approx(8 * originals[name].size / duration, rel=0.25)  # but for the container
    assert facts == {"codec": kind.codec, "channels": kind.channels, "sample_rate": kind.heard_rate or kind.rate}


@pytest.mark.parametrize("name", ["ADTS", "AMR", "MP3"])
def test_the_duration_of_what_has_no_index_is_measured(
    name: str,
    originals: dict[str, Source],
    tmp_path: Path,
) -> None:
    data = originals[name].path.read_bytes()
    magic = 6 if name == "AMR" else 0
    path = tmp_path / "long"
    path.write_bytes(data + 9 * data[magic:])
    facts = run("facts", source(path, KINDS[name]), tmp_path).facts
    assert facts["duration"] == pytest.approx(10 * SECONDS, rel=0.05)


@EVERY_KIND
def test_every_recording_becomes_aac_in_m4a(name: str, originals: dict[str, Source], tmp_path: Path) -> None:
    before = hear(originals[name].path)
    made = make("aac", originals[name], tmp_path)
    heard = hear(made.path)
    assert (made.content_type, made.path.suffix) == ("audio/mp4", ".m4a")
    assert (heard.codec, heard.channels) == ("aac", before.channels)
    assert heard.seconds == pytest.approx(before.seconds, abs=TOLERANCE)


@pytest.mark.parametrize(("name", "bit_rate"), [("mono MP3", 64_000), ("MP3", 128_000)])
def test_aac_has_64_kilobits_for_mono_and_128_for_stereo(
    name: str,
    bit_rate: int,
    originals: dict[str, Source],
    tmp_path: Path,
) -> None:
    with av.open(str(make("aac", originals[name], tmp_path).path)) as container:
        assert container.streams.audio[0].bit_rate == pytest.approx(bit_rate, rel=0.1)


def test_m4a_begins_with_its_index_and_is_sniffed_as_sound(originals: dict[str, Source], tmp_path: Path) -> None:
    data = make("aac", originals["voice note"], tmp_path).path.read_bytes()
    order = list(boxes(data))
    assert order.index("moov") < order.index("mdat")
    assert sniff(data) == "audio/mp4"


@pytest.mark.parametrize(
    ("name", "codec", "content_type"),
    [
        ("MP3", "mp3", "audio/mpeg"),
        ("mono MP3", "mp3", "audio/mpeg"),
        ("M4A", "aac", "audio/mp4"),
        ("ADTS", "aac", "audio/mp4"),
        ("AMR", "opus", "audio/ogg"),
        ("AMR in 3GP", "opus", "audio/ogg"),
        ("WAV", "aac", "audio/mp4"),
        ("FLAC", "aac", "audio/mp4"),
    ],
)
def test_each_kind_is_compressed_to_what_the_contract_says(
    name: str,
    codec: str,
    content_type: str,
    originals: dict[str, Source],
    tmp_path: Path,
) -> None:
    before = hear(originals[name].path)
    made = make("compressed", originals[name], tmp_path)
    heard = hear(made.path)
    assert (heard.codec, made.content_type) == (codec, content_type)
    assert sniff(made.path.read_bytes()) == content_type
    assert heard.channels == before.channels
    assert heard.seconds == pytest.approx(before.seconds, abs=TOLERANCE)


@pytest.mark.parametrize(("name", "bit_rate"), [("MP3", 128_000), ("M4A", 128_000), ("AMR", 64_000)])
def test_compressed_has_the_contract_s_bit_rate(
    name: str,
    bit_rate: int,
    originals: dict[str, Source],
    tmp_path: Path,
) -> None:
    made = make("compressed", originals[name], tmp_path)
    assert 8 * made.path.stat().st_size / SECONDS == pytest.approx(bit_rate, rel=0.15)


@pytest.mark.parametrize(
    "kind",
    [
        Kind(".mp3", "mp3", "libmp3lame", "mp3", "audio/mpeg", 44100, 2, 128_000),
        Kind(".m4a", "ipod", "aac", "aac", "audio/mp4", 44100, 1, 64_000),
        Kind(".webm", "webm", "libopus", "opus", "audio/webm", 48000, 1, 32_000),
    ],
    ids=lambda kind: kind.codec,
)
def test_what_is_small_enough_is_not_encoded_again(kind: Kind, tmp_path: Path) -> None:
    original = source(record(tmp_path / f"small{kind.suffix}", kind), kind)
    assert run("compressed", original, tmp_path) == Result()


@pytest.mark.parametrize("step", ["aac", "compressed"])
@pytest.mark.parametrize("name", WITH_COVER)
def test_cover_art_is_no_video_and_tags_are_dropped(name: str, step: str, tmp_path: Path) -> None:
    kind = WITH_COVER[name]
    original = source(record(tmp_path / f"cover{kind.suffix}", kind, cover=True), kind)
    made = make(step, original, tmp_path)
    heard = hear(made.path)
    assert heard.streams == ["audio"]
    assert not heard.tags & {"title", "location", "encoder"}
    assert b"Secret" not in made.path.read_bytes()
    assert b"+52.52" not in made.path.read_bytes()
    assert run("facts", original, tmp_path).facts["codec"] == kind.codec


@pytest.mark.parametrize(("step", "name"), [("aac", "voice note"), ("compressed", "AMR"), ("compressed", "MP3")])
def test_the_same_recording_gives_the_same_bytes(
    step: str,
    name: str,
    originals: dict[str, Source],
    tmp_path: Path,
) -> None:
    contents = set()
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        contents.add(make(step, originals[name], folder).path.read_bytes())
    assert len(contents) == 1


def test_the_waveform_is_a_picture_and_sixty_four_numbers(originals: dict[str, Source], tmp_path: Path) -> None:
    result = run("waveform", originals["voice note"], tmp_path)
    (made,) = result.made
    peaks: list[Any] = result.facts["waveform"]
    assert (made.name, made.content_type) == ("waveform", "image/png")
    assert sniff(made.path.read_bytes()) == "image/png"
    assert len(peaks) == 64
    assert max(peaks) == 100
    assert min(peaks) > 50  # the test's chord is about as loud from end to end


def test_sound_that_changes_its_form_on_the_way_is_heard_to_its_end(tmp_path: Path) -> None:
    """ADTS may change rate and channels with every frame (ISO/IEC 13818-7 §6.2): two files in one."""
    stereo = KINDS["ADTS"]
    mono = Kind(".aac", "adts", "aac", "aac", "audio/aac", 24000, 1, 64_000)
    path = tmp_path / "both.aac"
    parts = (record(tmp_path / f"{part.channels}.aac", part) for part in (stereo, mono))
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    made = make("aac", source(path, stereo), tmp_path)
    assert hear(made.path).seconds == pytest.approx(2 * SECONDS, abs=3 * TOLERANCE)


def test_links_of_a_chained_ogg_are_heard_one_after_the_other(originals: dict[str, Source], tmp_path: Path) -> None:
    """RFC 3533 §4: logical bitstreams may follow each other in one file."""
    path = tmp_path / "chained.ogg"
    path.write_bytes(2 * originals["voice note"].path.read_bytes())
    original = source(path, KINDS["voice note"])
    assert run("facts", original, tmp_path).facts["duration"] == pytest.approx(2 * SECONDS, abs=2 * TOLERANCE)
    assert hear(make("aac", original, tmp_path).path).seconds == pytest.approx(2 * SECONDS, abs=2 * TOLERANCE)
