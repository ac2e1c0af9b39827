"""Draws the demo's document: a receipt and a ticket, two pages of one PDF."""

import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

WIDTH, HEIGHT = 992, 1403  # A4 at 120 dots per inch
RESOLUTION = 120
MARGIN = 88
ISSUED = time.gmtime(1_794_650_000)  # 14 November 2026: the file says the same on every run

INK = (33, 37, 48)
FAINT = (112, 118, 134)
LINE = (222, 225, 232)
ACCENT = (94, 72, 196)
PALE = (244, 242, 252)

ITEMS = (
    ("Launch day ticket, adult", 2, 34_00),
    ("Launch day ticket, child", 1, 19_00),
    ("Audio guide", 3, 4_50),
    ("Espresso, Pad 40 Coffee Bar", 2, 2_80),
    ("Poster “Deep field”, 70 by 60 cm", 1, 24_00),
)
TAX_RATE = 7  # per cent, contained in the prices


def make_receipt(photo: Path, target: Path) -> None:
    """Write an A4 PDF of two pages, the second with ``photo`` on it."""
    receipt, ticket = _receipt(), _ticket(photo)
    receipt.save(
        target,
        save_all=True,
        append_images=[ticket],
        resolution=RESOLUTION,
        quality=80,
        title="Receipt 2026-1114-07",
        creationDate=ISSUED,
        modDate=ISSUED,
    )


def _page(heading: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, WIDTH, 18), fill=ACCENT)
    pen.ellipse((MARGIN, 84, MARGIN + 56, 140), fill=(255, 190, 92))
    pen.arc((MARGIN - 16, 96, MARGIN + 72, 128), -20, 200, fill=ACCENT, width=7)
    _write(pen, (MARGIN + 92, 112), "Saturn Space Centre", size=30, anchor="lm", bold=True)
    _write(pen, (WIDTH - MARGIN, 112), heading, size=30, anchor="rm", fill=ACCENT)
    _write(pen, (MARGIN, HEIGHT - 92), "Saturn Space Centre · 40 Launch Road · Demo Island", size=17, fill=FAINT)
    _write(pen, (WIDTH - MARGIN, HEIGHT - 92), "A sample: nothing was sold.", size=17, fill=FAINT, anchor="ra")
    return page, pen


def _receipt() -> Image.Image:
    page, pen = _page("Receipt")
    facts = (("Receipt", "2026-1114-07"), ("Date", "14 November 2026"), ("Paid by", "Card ···· 4242"))
    _facts(pen, MARGIN, 208, facts, apart=280)
    y = _table(pen, 360)
    total = sum(count * price for _, count, price in ITEMS)
    tax = round(total * TAX_RATE / (100 + TAX_RATE))
    _sum(pen, y + 30, f"of which tax, {TAX_RATE} %", tax, fill=FAINT)
    pen.rounded_rectangle((WIDTH // 2, y + 84, WIDTH - MARGIN, y + 152), radius=14, fill=PALE)
    _sum(pen, y + 102, "Total", total, size=28, bold=True)
    _write(pen, (MARGIN, y + 240), "Thank you, and see you at the next launch!", size=24, fill=ACCENT)
    _write(pen, (MARGIN, y + 284), "Your ticket is on the second page.", size=20, fill=FAINT)
    return page


def _facts(pen: ImageDraw.ImageDraw, x: int, y: int, facts: tuple[tuple[str, str], ...], *, apart: int) -> None:
    for name, value in facts:
        _write(pen, (x, y), name, size=17, fill=FAINT)
        _write(pen, (x, y + 28), value, size=22, bold=True)
        x += apart


def _table(pen: ImageDraw.ImageDraw, y: int) -> int:
    """Draw the items from ``y`` downwards and return where the table ends."""
    columns = ((MARGIN, "la"), (WIDTH - MARGIN - 260, "ra"), (WIDTH - MARGIN - 130, "ra"), (WIDTH - MARGIN, "ra"))
    rows = [(name, str(count), _dollars(price), _dollars(count * price)) for name, count, price in ITEMS]
    for number, row in enumerate([("Item", "Number", "Each", "Amount"), *rows]):
        for (x, anchor), cell in zip(columns, row, strict=True):
            _write(pen, (x, y), cell, size=20 if number else 17, fill=INK if number else FAINT, anchor=anchor)
        y += 54 if number else 44
        pen.line((MARGIN, y - 16, WIDTH - MARGIN, y - 16), fill=LINE, width=2)
    return y


def _sum(
    pen: ImageDraw.ImageDraw,
    y: int,
    name: str,
    cents: int,
    *,
    size: int = 20,
    fill: tuple[int, int, int] = INK,
    bold: bool = False,
) -> None:
    _write(pen, (WIDTH // 2 + 24, y), name, size=size, fill=fill, bold=bold)
    _write(pen, (WIDTH - MARGIN - 24, y), _dollars(cents), size=size, fill=fill, bold=bold, anchor="ra")


def _ticket(photo: Path) -> Image.Image:
    page, pen = _page("Ticket")
    left, top, right = MARGIN, 210, WIDTH - MARGIN
    with Image.open(photo) as image:
        image.draft("RGB", (right - left, 480))
        picture = ImageOps.fit(image, (right - left, 480), centering=(0.5, 0.7))
    page.paste(picture, (left, top))
    pen.rectangle((left, top + 480, right, top + 760), fill=PALE)
    _write(pen, (left + 40, top + 516), "Launch day", size=44, bold=True)
    _write(pen, (left + 40, top + 580), "Gate B · doors open at 16:30", size=24, fill=FAINT)
    facts = (("Date", "14 Nov 2026"), ("Adults", "2"), ("Children", "1"))
    _facts(pen, left + 40, top + 660, facts, apart=170)
    for y in range(top + 490, top + 760, 18):
        pen.ellipse((right - 252, y, right - 246, y + 6), fill=LINE)
    _barcode(pen, right - 206, top + 530)
    _write(pen, (left, top + 800), "Show this page at the gate, on paper or on a screen.", size=20, fill=FAINT)
    return page


def _barcode(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for digit in "20261114074029711835602184":
        bar = 1 + int(digit) % 4
        pen.rectangle((x, y, x + bar, y + 150), fill=INK)
        x += bar + 4 - int(digit) % 3
    _write(pen, (x - 84, y + 170), "2026-1114-07", size=18, fill=FAINT, anchor="ma")


def _dollars(cents: int) -> str:
    return f"${cents // 100}.{cents % 100:02}"


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int,
    fill: tuple[int, int, int] = INK,
    anchor: str = "la",
    bold: bool = False,
) -> None:
    """Write one line; Pillow brings a single weight, so a thin stroke makes it bold."""
    font = ImageFont.load_default(size)
    pen.text(place, text, font=font, fill=fill, anchor=anchor, stroke_width=size / 50 if bold else 0)
