"""Makes of a film what a chat shows and every phone plays."""

from collections import deque
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from PIL import Image

from ingest.processing import pictures
from ingest.processing.clock import timed
from ingest.processing.containers import frames, opened, pictures_of
from ingest.processing.film import Film, look, look_whole, seconds_of
from ingest.processing.frames import Scaler
from ingest.processing.hls import make_stream
from ingest.processing.steps import Ceilings, Made, Result, Source, Step
from ingest.processing.transcode import Rendition, transcode

_SHOWN_AT = 1.0  # seconds; what stands for the film
_PREVIEW_SECONDS = 5.0
_PREVIEW_SIDE = 360  # pixels of the short side, as below
_COMPRESSED_SIDE = 720


def steps(source: Source, ceilings: Ceilings) -> list[Step]:
    """Return what is done with a film, in order; the stream after ``compressed``, of which it is made in part.

    Only the steps that decode all of a film refuse one that is too long: a picture and a preview of it are cheap.

    Raises:
        Unprocessable: ``no-video``, ``undecodable``, ``too-many-streams`` or ``too-many-pixels``, by the header.
    """
    with opened(source.path, ceilings) as container:
        pictures_of(container, ceilings)
    return [
        Step("facts", (), partial(_facts, source, ceilings)),
        Step("squares", tuple(pictures.SQUARES), partial(_squares, source, ceilings)),
        Step("preview", ("preview",), partial(_preview, source, ceilings)),
        Step("compressed", ("compressed",), partial(_compressed, source, ceilings)),
        Step("hls", ("hls",), partial(_hls, source, ceilings)),
    ]


def _facts(source: Source, ceilings: Ceilings, folder: Path) -> Result:  # noqa: ARG001 - every step is given a folder
    film, seconds = look(source, ceilings), seconds_of(source, ceilings)
    facts: dict[str, Any] = {
        "width": film.width,
        "height": film.height,
        "duration": round(seconds, 3),
        "codec": film.codec,
    }
    if film.sound:
        facts["audio_codec"] = film.sound.codec
    if seconds:
        facts["bitrate"] = round(8 * source.size / seconds)
    return Result(facts=facts)


def _squares(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    image = _image_of(source, ceilings, look(source, ceilings))
    return Result(made=pictures.squares(image, folder), facts=pictures.placeholders(image))


def _preview(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    rendition = Rendition(path=folder / "preview.mp4", short_side=_PREVIEW_SIDE)
    transcode(source, ceilings, look(source, ceilings), rendition, until=_PREVIEW_SECONDS)
    return Result(made=(Made("preview", rendition.path, "video/mp4"),))


def _compressed(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    rendition = Rendition(path=_compressed_path(folder), short_side=_COMPRESSED_SIDE, sound=True)
    transcode(source, ceilings, look_whole(source, ceilings), rendition)
    return Result(made=(Made("compressed", rendition.path, "video/mp4"),))


def _hls(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    return Result(made=make_stream(source, ceilings, folder, _compressed_path(folder)))


def _compressed_path(folder: Path) -> Path:
    return folder / "compressed.mp4"


def _image_of(source: Source, ceilings: Ceilings, film: Film) -> Image.Image:
    """Return what is shown at one second, which may have begun long before; of a shorter film, the last picture."""
    with opened(source.path, ceilings) as container:
        decoded = frames(container, pictures_of(container, ceilings))
        times = timed(decoded, start=film.start, ceiling=ceilings.seconds)
        *_, shown = deque(takewhile(lambda frame: (frame.time or 0) <= _SHOWN_AT, times), maxlen=1)
        size = film.fitted(pictures.SQUARES["large"])
        scaled = Scaler(size, turn=film.turn, pixel_format="rgb24").scale(shown)
        return cast("Image.Image", scaled.to_image())  # type: ignore[no-untyped-call]  # PyAV gives it no types
