"""Opens pictures of strangers: within the ceilings, upright, in sRGB, and with one error for all that is broken."""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from PIL import Image, ImageCms, ImageFile

from ingest.processing import exif
from ingest.processing.pictures import covering, plain
from ingest.processing.steps import Ceilings, Source, Unprocessable

_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "image/apng": "PNG",
        "image/avif": "AVIF",
        "image/bmp": "BMP",
        "image/gif": "GIF",
        "image/heif": "AVIF",  # the container's general name; what is HEVC inside stays undecodable
        "image/jpeg": "JPEG",
        "image/png": "PNG",
        "image/tiff": "TIFF",
        "image/webp": "WEBP",
    }
)
_ANIMATED = frozenset({"AVIF", "GIF", "PNG", "WEBP"})  # further images of the others are pages, or other sizes

_TURNS = {  # EXIF 2.32, tag Orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = range(5, 9)
_MODES_OF_SPACES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}  # ICC.1, data colour space


class Opened:
    """A picture's file, of which only the header has been read; good until the block of `opened` ends."""

    def __init__(self, file: ImageFile.ImageFile) -> None:
        self.file = file

    @property
    def codec(self) -> str:
        """How the pixels are coded, such as ``jpeg``."""
        name = str(self.file.format).lower()
        return "jpeg" if name == "mpo" else name

    @property
    def first_frame(self) -> int:
        """The index of an animation's first frame: APNG may begin with a picture for those who cannot play it."""
        return int(bool(getattr(self.file, "default_image", False)))

    @cached_property
    def frames(self) -> int:
        """How many frames an animation has, 1 for what does not move; none of them is decoded for it."""
        if self.file.format not in _ANIMATED:
            return 1
        return int(getattr(self.file, "n_frames", 1)) - self.first_frame

    @cached_property
    def exif(self) -> exif.Exif:
        """What the camera wrote; to be asked for when the pixels have been decoded."""
        return exif.read(self.file)

    def shown(self, picture: Image.Image) -> Image.Image:
        """Return pixels of this file as they are meant to be seen: upright, in sRGB, `plain`, without metadata."""
        picture = self._in_srgb(picture)
        turn = _TURNS.get(self.exif.orientation)
        picture = picture.copy() if turn is None else picture.transpose(turn)
        picture.info.clear()
        return picture

    def _in_srgb(self, picture: Image.Image) -> Image.Image:
        source = picture if picture.mode == "CMYK" else plain(picture)
        profile = self._profile
        if profile is None or source.mode not in _MODES_OF_SPACES.get(profile.profile.xcolor_space, ()):
            return plain(source)
        target = "RGBA" if source.mode == "RGBA" else "RGB"
        try:
            transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), source.mode, target)
        except ImageCms.PyCMSError:  # broken in what only a conversion needs
            return plain(source)
        return transform.apply(source)

    @cached_property
    def _profile(self) -> ImageCms.ImageCmsProfile | None:
        """The ICC profile, unless it is broken, or is sRGB: a conversion that takes time and changes nothing."""
        data = self.file.info.get("icc_profile")
        if not data:
            return None
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
            name = ImageCms.getProfileDescription(profile)
        except (ImageCms.PyCMSError, OSError):
            return None
        return None if name.startswith("sRGB") else profile


@dataclass(frozen=True, slots=True)
class Still:
    """The only, or the first, frame of a picture."""

    picture: Image.Image
    """As it is shown, see `Opened.shown`."""
    size: tuple[int, int]
    """Width and height of the original, in pixels, as it is shown."""
    codec: str
    exif: Mapping[str, str | float]


@contextmanager
def opened(source: Source, ceilings: Ceilings) -> Iterator[Opened]:
    """Open a picture's file as what it was sniffed to be, and as nothing else.

    What a decoder raises in the block becomes `Unprocessable`. Not for several threads at once: Pillow's ceiling is a
    variable of its module.

    Raises:
        Unprocessable: ``unsupported-type``, ``too-many-pixels`` or ``undecodable``.
    """
    name = _FORMATS.get(source.content_type.partition(";")[0])
    if name is None:
        raise Unprocessable("unsupported-type", source.content_type)
    with _decoding(ceilings.pixels), Image.open(source.path, formats=(name,)) as file:
        yield Opened(file)


def whole(source: Source, ceilings: Ceilings) -> Still:
    """Decode a picture's first frame in full.

    Raises:
        Unprocessable: As for `opened`.
    """
    with opened(source, ceilings) as image:
        image.file.load()
        return _still(image, image.file, image.file.size)


def reduced(source: Source, ceilings: Ceilings, side: int) -> Still:
    """Decode a JPEG only as far as a square needs: its shorter side becomes ``side`` pixels, if it is not shorter.

    A file that ends too early is shown as far as it goes, as browsers show it, over grey. The whole picture is not
    made of such a file: what can be seen of it should not pass for all there was.

    Raises:
        Unprocessable: As for `opened`.
    """
    with opened(source, ceilings) as image:
        size = image.file.size
        image.file.draft(None, (side, side))
        with _truncated_files_allowed():
            image.file.load()
        return _still(image, covering(image.file, side), size)


def _still(image: Opened, picture: Image.Image, size: tuple[int, int]) -> Still:
    shown_size = size[::-1] if image.exif.orientation in _SIDEWAYS else size
    return Still(image.shown(picture), shown_size, image.codec, image.exif.details)


@contextmanager
def _decoding(pixels: int) -> Iterator[None]:
    # Pillow looks where we cannot: before WebP gets memory for its canvas, and when a late frame enlarges that of GIF.
    ceiling, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there are thousands where a file is made to cause them
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unprocessable("too-many-pixels", f"over {pixels}") from error
    except (Unprocessable, MemoryError):
        raise
    except Exception as error:
        if getattr(error, "errno", None) is not None:  # of the file system
            raise
        raise Unprocessable("undecodable", type(error).__name__) from error
    finally:
        Image.MAX_IMAGE_PIXELS = ceiling


@contextmanager
def _truncated_files_allowed() -> Iterator[None]:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
