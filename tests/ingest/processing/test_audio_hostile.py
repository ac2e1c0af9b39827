"""What comes of recordings that are damaged, lie, or are none."""

import math
import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from ingest.processing import audio
from ingest.processing.steps import Ceilings, Source, Step, Unprocessable
from tests.ingest.processing.recordings import KINDS, SECONDS, film, record, wav

TEN_HOURS = 36_000  # seconds
STEPS = ["facts", "waveform", "aac", "compressed"]
MUTATIONS = 6  # of every kind of file


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("recordings")
    return {name: record(folder / f"it{kind.suffix}", kind).read_bytes() for name, kind in KINDS.items()}


def steps(data: bytes, folder: Path, ceilings: Ceilings | None = None) -> dict[str, Step]:
    path = folder / "original"
    path.write_bytes(data)
    original = Source(path=path, content_type="audio/ogg", size=len(data))
    return {step.name: step for step in audio.steps(original, ceilings or Ceilings())}


def refusal(step: Step, folder: Path) -> str:
    with pytest.raises(Unprocessable) as refused:
        step.run(folder)
    return refused.value.code


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"<!DOCTYPE html><title>Not found</title>",
        b"OggS",
        b"OggS\0\x02" + 40 * b"\0",
        b"#!AMR\n",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        wav(b"", rate=44100),
    ],
    ids=["nothing", "one byte", "HTML", "magic alone", "empty Ogg page", "AMR without a frame", "endless ID3", "WAV"],
)
def test_what_is_no_sound_is_undecodable(data: bytes, step: str, tmp_path: Path) -> None:
    assert refusal(steps(data, tmp_path)[step], tmp_path) == "undecodable"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
    ids=["HLS", "concat", "SDP"],
)
def test_a_playlist_opens_no_other_file(
    playlist: str,
    step: str,
    originals: dict[str, bytes],
    tmp_path: Path,
) -> None:
    other = tmp_path / "secret.mp3"
    other.write_bytes(originals["MP3"])
    data = playlist.format(other).encode()
    assert refusal(steps(data, tmp_path)[step], tmp_path) == "undecodable"


@pytest.mark.parametrize("step", STEPS)
def test_a_film_without_sound_has_no_audio(step: str, tmp_path: Path) -> None:
    data = film(tmp_path / "silent.mp4").read_bytes()
    assert refusal(steps(data, tmp_path)[step], tmp_path) == "no-audio"


def claim_in_webm(data: bytearray, seconds: int) -> None:
    """RFC 9559 §5.1.2.10: Duration, here a double, in milliseconds."""
    start = data.index(b"\x44\x89\x88") + 3
    data[start : start + 8] = struct.pack(">d", 1000 * seconds)


def claim_in_flac(data: bytearray, seconds: int) -> None:
    """RFC 9639 §8.2: the number of samples is the last 36 bits before the checksum of STREAMINFO."""
    rate = int.from_bytes(data[18:21], "big") >> 4
    data[21:26] = (data[21] >> 4 << 36 | seconds * rate).to_bytes(5, "big")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("name", "claim"), [("Opus in WebM", claim_in_webm), ("FLAC", claim_in_flac)])
def test_a_header_that_claims_ten_hours_is_refused_before_decoding(
    name: str,
    claim: Callable[[bytearray, int], None],
    step: str,
    originals: dict[str, bytes],
    tmp_path: Path,
) -> None:
    data = bytearray(originals[name])
    claim(data, TEN_HOURS)
    assert refusal(steps(bytes(data), tmp_path)[step], tmp_path) == "too-long"


@pytest.mark.parametrize("step", STEPS)
def test_a_few_bytes_that_last_for_hours_are_too_long(step: str, tmp_path: Path) -> None:
    data = wav(2 * TEN_HOURS * b"\0", rate=1)
    assert refusal(steps(data, tmp_path)[step], tmp_path) == "too-long"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["ADTS", "AMR", "MP3"])
def test_without_an_index_the_ceiling_is_met_while_decoding(
    name: str,
    step: str,
    originals: dict[str, bytes],
    tmp_path: Path,
) -> None:
    short = Ceilings(seconds=SECONDS / 2)
    assert refusal(steps(originals[name], tmp_path, short)[step], tmp_path) == "too-long"


@pytest.mark.parametrize("name", KINDS)
def test_what_was_not_cut_off_is_kept(name: str, originals: dict[str, bytes], tmp_path: Path) -> None:
    data = originals[name]
    if name in {"M4A", "AMR in 3GP"}:  # their index is at the end: without it nothing can be found
        offered = steps(data[: len(data) * 6 // 10], tmp_path)
        assert refusal(offered["aac"], tmp_path) == "undecodable"
        return
    offered = steps(data[: len(data) * 6 // 10], tmp_path)
    facts = offered["facts"].run(tmp_path).facts
    assert 0.4 * SECONDS < facts["duration"] < 0.75 * SECONDS
    assert len(offered["waveform"].run(tmp_path).facts["waveform"]) == 64
    (made,) = offered["aac"].run(tmp_path).made
    with av.open(str(made.path)) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(facts["duration"], abs=0.05)


@pytest.mark.parametrize("name", KINDS)
def test_flipped_bits_end_in_a_rendition_or_an_error(name: str, tmp_path: Path) -> None:
    dice = random.Random(name)
    original = record(tmp_path / "intact", KINDS[name], seconds=0.5).read_bytes()
    for _ in range(MUTATIONS):
        data = bytearray(original)
        for _ in range(dice.choice((1, 10, 100))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        for step in steps(bytes(data), tmp_path).values():
            try:
                result = step.run(tmp_path)
            except (Unprocessable, av.FFmpegError):
                continue
            assert all(made.path.stat().st_size for made in result.made)
            assert math.isfinite(result.facts.get("duration", 0))


def test_tags_that_are_no_utf_8_do_no_harm(tmp_path: Path) -> None:
    info = b"INFOINAM\x06\0\0\0\xe9t\xe9\xff\xfe\0"  # as old recorders write it: Latin-1
    facts = steps(wav(bytes(16000), tags=info), tmp_path)["facts"].run(tmp_path).facts
    assert facts["duration"] == 1.0


def test_numbers_that_are_none_do_not_stop_the_encoder(tmp_path: Path) -> None:
    floats = array("f", [math.nan, math.inf, -math.inf, 1e30] * 2000).tobytes()
    (made,) = steps(wav(floats, floats=True), tmp_path)["aac"].run(tmp_path).made
    assert made.path.stat().st_size


@pytest.mark.parametrize("channels", [3, 6, 24])
def test_many_channels_become_two(channels: int, tmp_path: Path) -> None:
    noise = random.Random(channels).randbytes(2 * channels * 8000)
    (made,) = steps(wav(noise, channels=channels), tmp_path)["aac"].run(tmp_path).made
    with av.open(str(made.path)) as container:
        assert container.streams.audio[0].channels == 2


@pytest.mark.parametrize("step", ["waveform", "aac"])
def test_more_channels_than_there_are_loudspeakers_are_an_error(step: str, tmp_path: Path) -> None:
    with pytest.raises((Unprocessable, av.FFmpegError)):
        steps(wav(bytes(200 * 2), channels=200), tmp_path)[step].run(tmp_path)


def test_too_little_sound_for_a_rendition_is_undecodable(tmp_path: Path) -> None:
    assert refusal(steps(wav(bytes(28), rate=7), tmp_path)["aac"], tmp_path) == "undecodable"


@pytest.mark.parametrize("rate", [11_025, 192_000, 655_350])
def test_odd_sampling_rates_are_brought_to_a_common_one(rate: int, tmp_path: Path) -> None:
    data = wav(bytes(2 * rate), rate=rate)
    (made,) = steps(data, tmp_path)["aac"].run(tmp_path).made
    with av.open(str(made.path)) as container:
        assert container.streams.audio[0].sample_rate in {24000, 48000}
        assert (container.duration or 0) / av.time_base == pytest.approx(1.0, abs=0.05)


def test_one_sample_can_be_told_and_shown(tmp_path: Path) -> None:
    offered = steps(wav(b"\xff\x7f"), tmp_path)
    assert offered["facts"].run(tmp_path).facts["duration"] == 0.0
    assert offered["waveform"].run(tmp_path).facts["waveform"] == 64 * [100]
