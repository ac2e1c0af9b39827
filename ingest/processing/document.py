"""Shows what a document is: how many pages it has, and what the top of the first one looks like."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from ingest.processing import pictures
from ingest.processing.steps import Ceilings, Result, Source, Step, Unprocessable

_SIDE = 800  # pixels: the largest square
_LONGEST = 32_000  # pixels of a whole page, most of which is cut off: PDFium's sums stay far below 2**31
_WHITE = (255, 255, 255, 255)
_CODES = {pdfium.FPDF_ERR_PASSWORD: "encrypted", pdfium.FPDF_ERR_SECURITY: "encrypted"}


def steps(source: Source, ceilings: Ceilings) -> list[Step]:
    """Return what is done with a PDF; any other document is shown by its type and name alone."""
    if source.content_type.partition(";")[0] != "application/pdf":
        return []
    return [
        Step("facts", (), partial(_facts, source)),
        Step("squares", tuple(pictures.SQUARES), partial(_squares, source, ceilings)),
    ]


def _facts(source: Source, folder: Path) -> Result:  # noqa: ARG001 - every step is given a folder
    with _opened(source.path) as document:
        return Result(facts={"pages": len(document)})


def _squares(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    with _opened(source.path) as document:
        image = _top(_first_page(document, ceilings), min(_SIDE, math.isqrt(ceilings.pixels)))
    return Result(made=pictures.squares(image, folder), facts=pictures.placeholders(image))


@contextmanager
def _opened(path: Path) -> Iterator[pypdfium2.PdfDocument]:
    """Open a PDF that needs no password and has a page; no form is initialised, so none of its scripts can run."""
    # Not by the wrapper's own loader: it reports a document without pages by whatever error came before it.
    handle = pdfium.FPDF_LoadDocument(os.fsencode(path), None)
    if not handle:
        code = _CODES.get(error := pdfium.FPDF_GetLastError(), "undecodable")
        raise Unprocessable(code, f"PDFium's error {error}")
    with pypdfium2.PdfDocument(handle) as document:
        if not len(document):
            raise Unprocessable("no-page", "a document without pages")
        yield document


def _first_page(document: pypdfium2.PdfDocument, ceilings: Ceilings) -> pypdfium2.PdfPage:
    """Load the first page, unless a picture on it would take more memory than a picture of its own may."""
    try:
        page = document[0]
        sizes = [image.get_px_size() for image in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE])]
    except pypdfium2.PdfiumError as error:
        raise Unprocessable("undecodable", str(error)) from error
    if any(width * height > ceilings.pixels for width, height in sizes):
        raise Unprocessable("too-many-pixels", f"a picture on the page has over {ceilings.pixels}")
    return page


def _top(page: pypdfium2.PdfPage, side: int) -> Image.Image:
    """Draw the square at the top of a page, where its heading is; nothing outside it takes memory."""
    size = page.get_size()
    scale = min(side / min(size), _LONGEST / max(size))
    width, height = (max(1, round(length * scale)) for length in size)
    side = min(width, height)
    bitmap = pypdfium2.PdfBitmap.new_native(side, side, pdfium.FPDFBitmap_BGR, rev_byteorder=True)
    bitmap.fill_rect(_WHITE, 0, 0, side, side)
    flags = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER
    pdfium.FPDF_RenderPageBitmap(bitmap, page, (side - width) // 2, 0, width, height, 0, flags)
    image: Image.Image = bitmap.to_pil()
    return image.copy()  # of its own: the bitmap's memory goes with the page
