"""Draws the demo's two stickers: a friendly planet, at rest and in motion."""

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 512  # pixels; what WhatsApp demands of a sticker
FINE = 2  # drawn this much larger, then shrunk: Pillow draws without anti-aliasing
FRAMES = 12
FRAME_MILLISECONDS = 100
TILT = 16  # degrees
STARS = ((84, 96, 0.0), (440, 128, 2.1), (404, 428, 4.2))  # x, y and where in its twinkle each begins

INK = (61, 43, 92)
PLANET = (255, 190, 92)
BANDS = ((255, 206, 128), (250, 168, 84), (255, 214, 150))
RING = (143, 116, 240)
RING_LIGHT = (186, 166, 255)
BLUSH = (255, 128, 122)
STAR = (255, 214, 64)
MOON = (214, 220, 236)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a frame is put together from."""

    awake: Image.Image
    winking: Image.Image
    star: Image.Image
    moon: Image.Image


def make_stickers(still: Path, animated: Path) -> None:
    """Write two WebP files of 512 by 512 pixels with a transparent background; the animated one never ends."""
    parts = _parts()
    first, *others = (_frame(parts, number) for number in range(FRAMES))
    first.save(still, quality=88, method=2)
    first.save(animated, save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0, quality=70, method=0)


def _parts() -> _Parts:
    planet = _planet()
    return _Parts(
        awake=_outlined(Image.alpha_composite(planet, _face(winking=False))),
        winking=_outlined(Image.alpha_composite(planet, _face(winking=True))),
        star=_outlined(_star()),
        moon=_outlined(_moon()),
    )


def _frame(parts: _Parts, number: int) -> Image.Image:
    turn = 2 * math.pi * number / FRAMES
    canvas = Image.new("RGBA", (SIZE, SIZE))
    for star_x, star_y, phase in STARS:
        _stamp(canvas, parts.star, star_x, star_y, scale=0.8 + 0.2 * math.sin(turn + phase))
    height = math.sin(turn + 2.6)
    moon = (parts.moon, 256 + 190 * math.cos(turn + 2.6), 256 - 150 * height)
    planet = (parts.winking if number in {7, 8} else parts.awake, 256.0, 262 + 6 * math.sin(turn))
    for image, x, y in (moon, planet) if height > 0 else (planet, moon):
        _stamp(canvas, image, x, y)
    return canvas


def _stamp(canvas: Image.Image, image: Image.Image, x: float, y: float, *, scale: float = 1) -> None:
    """Lay ``image`` with its centre at ``x``, ``y`` over the canvas; it must not leave at the left or the top."""
    if scale != 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    canvas.alpha_composite(image, (round(x - image.width / 2), round(y - image.height / 2)))


def _outlined(drawing: Image.Image) -> Image.Image:
    """Return the drawing shrunk to its final size, cut out and with the white border of a sticker."""
    small = drawing.reduce(FINE)
    blurred = small.getchannel("A").filter(ImageFilter.GaussianBlur(6))
    border = Image.new("RGBA", small.size, "white")
    border.putalpha(blurred.point([min(255, max(0, (level - 24) * 10)) for level in range(256)]))
    border.alpha_composite(small)
    return border.crop(border.getbbox())


def _blank(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("RGBA", (size * FINE, size * FINE))
    return layer, ImageDraw.Draw(layer)


def _box(x: float, y: float, radius: float, squeeze: float = 1) -> Box:
    """Return the corners of an ellipse in the pixels of a fine drawing."""
    x, y, wide, high = FINE * x, FINE * y, FINE * radius, FINE * radius * squeeze
    return x - wide, y - high, x + wide, y + high


def _planet() -> Image.Image:
    drawing = _half_ring(180, 360)
    drawing.alpha_composite(_globe())
    drawing.alpha_composite(_half_ring(0, 180))
    return drawing


def _globe() -> Image.Image:
    layer, pen = _blank(SIZE)
    pen.ellipse(_box(256, 256, 142), fill=PLANET)
    for colour, y, squeeze in zip(BANDS, (150, 330, 205), (0.16, 0.2, 0.07), strict=True):
        pen.ellipse(_box(250, y, 170, squeeze), fill=colour)
    pen.ellipse(_box(256, 256, 142), outline=INK, width=7 * FINE)
    disc = Image.new("L", layer.size)
    ImageDraw.Draw(disc).ellipse(_box(256, 256, 142), fill=255)
    layer.putalpha(ImageChops.darker(layer.getchannel("A"), disc))
    return layer


def _half_ring(start: int, end: int) -> Image.Image:
    layer, pen = _blank(SIZE)
    pen.arc(_box(256, 268, 226, 0.3), start, end, fill=INK, width=36 * FINE)
    pen.arc(_box(256, 268, 219, 0.29), start, end, fill=RING, width=22 * FINE)
    pen.arc(_box(256, 268, 212, 0.285), start, end, fill=RING_LIGHT, width=6 * FINE)
    return layer.rotate(TILT, Image.Resampling.BILINEAR)


def _face(*, winking: bool) -> Image.Image:
    layer, pen = _blank(SIZE)
    for x in (206, 306):
        if winking and x > SIZE // 2:
            pen.arc(_box(x, 226, 20), 190, 350, fill=INK, width=8 * FINE)
        else:
            pen.ellipse(_box(x, 218, 17, 1.25), fill=INK)
            pen.ellipse(_box(x + 6, 209, 6), fill="white")
        pen.ellipse(_box(x + (-22 if x < SIZE // 2 else 22), 254, 17, 0.6), fill=BLUSH)
    pen.pieslice(_box(256, 240, 26, 1.1), 0, 180, fill=INK)
    pen.ellipse(_box(256, 262, 14, 0.5), fill=BLUSH)
    return layer


def _star() -> Image.Image:
    layer, pen = _blank(96)
    corners = [(radius, math.pi * number / 5) for number, radius in enumerate((34, 16) * 5)]
    points = [(FINE * (48 + r * math.sin(angle)), FINE * (48 - r * math.cos(angle))) for r, angle in corners]
    pen.polygon(points, fill=STAR, outline=INK, width=4 * FINE)
    return layer


def _moon() -> Image.Image:
    layer, pen = _blank(96)
    pen.ellipse(_box(48, 48, 30), fill=MOON, outline=INK, width=5 * FINE)
    for x, y, radius in ((40, 40, 6), (58, 50, 8), (42, 60, 4)):
        pen.ellipse(_box(x, y, radius), fill=(184, 192, 214))
    return layer
