"""Pictures for the tests, made by real encoders, and what the steps of `ingest.processing.image` make of them."""

import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from ingest.processing import image
from ingest.processing.steps import Ceilings, Made, Result, Source, Step

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 30)
SIZE = (96, 64)


def quadrants(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Four quarters: red and green above blue and yellow."""
    picture = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for colour, corner in ((RED, (0, 0)), (GREEN, (width, 0)), (BLUE, (0, height)), (YELLOW, (width, height))):
        picture.paste(colour, (*corner, *size))
    return picture.convert(mode)


def gradient(size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with many more than 256 colours."""
    across = Image.linear_gradient("L").rotate(90).resize(size)
    down = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (across, down, Image.blend(across, down, 0.3)))


def corners(picture: Image.Image) -> list[tuple[int, int, int]]:
    """The colours in the middle of the four quarters, in reading order."""
    rgb = picture.convert("RGB")
    (left, right), (top, bottom) = ((side // 4, side * 3 // 4) for side in rgb.size)
    return [pixel(rgb, place) for place in ((left, top), (right, top), (left, bottom), (right, bottom))]


def pixel(picture: Image.Image, place: tuple[int, int]) -> Any:
    return picture.getpixel(place)


def decoded(path: Path) -> Image.Image:
    """A picture whose file is closed again; of an animation, the first frame."""
    with Image.open(path) as file:
        file.load()
        return file


def near(one: tuple[int, ...], other: tuple[int, ...], tolerance: int = 12) -> bool:
    """Tell whether two colours are the same but for lossy compression."""
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def moving(frames: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> list[Image.Image]:
    """Frames in each of which a white bar is further to the right, over red."""
    pictures = []
    for number in range(frames):
        frame = Image.new("RGB", size, RED)
        frame.paste((255, 255, 255), (number % size[0], 0, number % size[0] + 4, size[1]))
        pictures.append(frame.convert(mode))
    return pictures


def profile_with_red_and_green_exchanged() -> bytes:
    """An RGB profile whose primaries are sRGB's, but in another order, and whose name is not sRGB."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {
        bytes(data[at : at + 4]): struct.unpack_from(">II", data, at + 4) for at in range(132, 132 + 12 * count, 12)
    }
    (red, length), (green, _) = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + length], data[green : green + length] = data[green : green + length], data[red : red + length]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Test".encode("utf-16-be"))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file (ISO/IEC 15948 §5.3)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_png_chunk(file: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG file with one more chunk, after its header."""
    header_end = 8 + 25
    return file[:header_end] + png_chunk(kind, data) + file[header_end:]


class Processed:
    """One original and its steps, each of which is run when it is asked for."""

    def __init__(self, path: Path, content_type: str, ceilings: Ceilings) -> None:
        self.folder = path.parent
        source = Source(path=path, content_type=content_type, size=path.stat().st_size)
        self.steps: dict[str, Step] = {step.name: step for step in image.steps(source, ceilings)}

    def run(self, step: str) -> Result:
        return self.steps[step].run(self.folder)

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.run("facts").facts)

    def made(self, name: str) -> Made:
        """Run the step that makes a variant."""
        step = next(step for step in self.steps.values() if name in step.makes)
        return next(made for made in step.run(self.folder).made if made.name == name)

    def opened(self, name: str) -> Image.Image:
        """The variant, decoded."""
        return decoded(self.made(name).path)


class Originals:
    """Writes originals into a test's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, data: bytes, content_type: str, ceilings: Ceilings | None = None) -> Processed:
        path = self.folder / "original"
        path.write_bytes(data)
        return Processed(path, content_type, ceilings or Ceilings())

    def save(self, picture: Image.Image, form: str, ceilings: Ceilings | None = None, **options: Any) -> Processed:
        """Encode a picture with Pillow, and take it for an original of that format."""
        path = self.folder / "original"
        picture.save(path, form, **options)
        return Processed(path, f"image/{form.lower()}", ceilings or Ceilings())

    def animate(
        self, frames: list[Image.Image], form: str, ceilings: Ceilings | None = None, **options: Any
    ) -> Processed:
        return self.save(frames[0], form, ceilings, save_all=True, append_images=frames[1:], **options)
