"""Which decoder gets which medium, by its type and, where that says too little, by what is in it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import av
import pytest
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ingest.processing.kinds import kind_of, steps
from ingest.processing.probe import is_sound_alone
from ingest.processing.steps import Ceilings, Source

KINDS = [
    ("image/jpeg", "image"),
    ("image/heic", "image"),
    ("image/svg+xml", None),
    ("video/mp4", "video"),
    ("video/quicktime", "video"),
    ("audio/ogg", "audio"),
    ("audio/amr", "audio"),
    ("audio/midi", None),
    ("application/ogg", "video"),
    ("application/pdf", "document"),
    ("application/zip", None),
    ("application/octet-stream", None),
    ("text/html", None),
    ("document/pdf", None),
    ("", None),
]


@pytest.mark.parametrize(("content_type", "kind"), KINDS)
def test_a_type_is_of_the_kind(content_type: str, kind: str | None) -> None:
    assert kind_of(content_type) == kind


def test_nothing_is_made_of_what_is_not_decoded(tmp_path: Path) -> None:
    assert steps(Source(path=tmp_path / "absent", content_type="application/zip", size=1), Ceilings()) == []


def film(path: Path, *, sound: str | None, pictures: str | None, cover: bool = False) -> None:
    """Make a moment of a film, without sound or without pictures if so wanted."""
    with av.open(str(path), "w") as container:
        shown = cast("VideoStream", container.add_stream(pictures, rate=10, width=64, height=48)) if pictures else None
        if shown is not None:
            shown.pix_fmt = "yuvj420p" if pictures == "mjpeg" else "yuv420p"
            shown.disposition = Disposition.attached_pic if cover else Disposition(0)
        if sound is not None:
            heard = cast("AudioStream", container.add_stream(sound, rate=48_000, layout="mono"))
            frame = av.AudioFrame(format=heard.format.name, layout="mono", samples=960)
            frame.sample_rate, frame.pts = 48_000, 0
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(heard.encode(frame) + heard.encode(None))
        if shown is not None:
            container.mux(shown.encode(VideoFrame(64, 48, "yuv420p")) + shown.encode(None))


FILMS = [
    pytest.param("film.mp4", {"sound": "aac", "pictures": "mpeg4"}, False, id="MP4 with both"),
    pytest.param("film.mp4", {"sound": None, "pictures": "mpeg4"}, False, id="MP4 without sound"),
    pytest.param("film.mp4", {"sound": "aac", "pictures": None}, True, id="MP4 of sound"),
    pytest.param("film.mp4", {"sound": "aac", "pictures": "mjpeg", "cover": True}, True, id="MP4 of sound, a cover"),
    pytest.param("film.3gp", {"sound": "aac", "pictures": None}, True, id="3GP of sound"),
    pytest.param("film.webm", {"sound": "libopus", "pictures": None}, True, id="WebM of sound"),
    pytest.param("film.webm", {"sound": "libopus", "pictures": "libvpx"}, False, id="WebM with both"),
    pytest.param("film.ogg", {"sound": "libopus", "pictures": None}, True, id="Ogg of sound"),
    pytest.param("film.avi", {"sound": None, "pictures": "mpeg4"}, False, id="AVI"),
]


@pytest.mark.parametrize(("name", "parts", "alone"), FILMS)
def test_sound_alone(tmp_path: Path, name: str, parts: dict[str, str], alone: bool) -> None:  # noqa: FBT001 a table's
    film(tmp_path / name, **parts)  # type: ignore[arg-type] # a table's
    assert is_sound_alone(tmp_path / name) is alone


def empty(path: Path) -> None:
    path.touch()


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n")


def truncated(path: Path) -> None:
    film(path.with_suffix(".mp4"), sound="aac", pictures=None)
    path.write_bytes(path.with_suffix(".mp4").read_bytes()[:100])


@pytest.mark.parametrize("make", [empty, playlist, truncated])
def test_what_cannot_be_told_is_left_to_the_films_decoder(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "film")
    assert is_sound_alone(tmp_path / "film") is False


def test_sound_under_a_films_type_gets_the_steps_of_sound(tmp_path: Path) -> None:
    film(tmp_path / "voice.mp4", sound="aac", pictures=None)
    source = Source(path=tmp_path / "voice.mp4", content_type="video/mp4", size=1)
    assert "waveform" in [step.name for step in steps(source, Ceilings())]
    assert "ingest.processing.audio" in sys.modules
