"""What a chat shows of a document, and what comes of documents that are damaged, locked or bombs."""

from pathlib import Path

import pytest
from PIL import Image

from ingest.processing import document
from ingest.processing.pictures import SQUARES
from ingest.processing.steps import Ceilings, Result, Source, Unprocessable

PDF = "application/pdf"
LETTER = (612, 792)  # points: US letter
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
WHOLE_PAGE = "q 612 0 0 792 0 0 cm /Im Do Q"  # draws the picture over all of it
STEPS = ["facts", "squares"]
USER_UNIT_LIMIT = 14_400  # points: the largest page that PDF 1.7 allows (ISO 32000-1, annex C)


def pdf(
    content: str = "",
    *,
    size: tuple[float, float] = LETTER,
    pages: int = 1,
    page: str = "",
    catalog: str = "",
    trailer: str = "",
    picture: str = "",
) -> bytes:
    """Write a PDF by hand: ``content`` is drawn on each of its pages, ``picture`` is /Im (ISO 32000-1 §7.5)."""
    kids = " ".join(f"{number + 5} 0 R" for number in range(pages))
    page += f"/MediaBox[0 0 {size[0]} {size[1]}]/Resources<</XObject<</Im 4 0 R>>>>"
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{catalog}>>",
        f"<</Type/Pages/Kids[{kids}]/Count {pages}>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        picture or "null",
        *(pages * [f"<</Type/Page/Parent 2 0 R/Contents 3 0 R{page}>>"]),
    ]
    body, table = "%PDF-1.7\n", f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    for number, text in enumerate(objects, 1):
        table += f"{len(body):010} 00000 n \n"
        body += f"{number} 0 obj\n{text}\nendobj\n"
    trailer = f"trailer\n<</Root 1 0 R/Size {len(objects) + 1}{trailer}>>"
    return f"{body}{table}{trailer}\nstartxref\n{len(body)}\n%%EOF".encode()


def fill(colour: tuple[int, int, int], left: float, bottom: float, width: float, height: float) -> str:
    """Return the operators that fill a rectangle, in points from the lower left corner (ISO 32000-1 §8.5)."""
    red, green, blue = (channel / 255 for channel in colour)
    return f"{red} {green} {blue} rg {left} {bottom} {width} {height} re f "


def grey(width: int, height: int) -> str:
    """Return a picture that has fewer bytes than its size calls for."""
    kind = f"/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceGray/BitsPerComponent 8"
    return f"<</Type/XObject{kind}/Length 3>>stream\nabc\nendstream"


def run(step: str, data: bytes, folder: Path, ceilings: Ceilings | None = None) -> Result:
    path = folder / "original.pdf"
    path.write_bytes(data)
    source = Source(path=path, content_type=PDF, size=len(data))
    steps = {offered.name: offered for offered in document.steps(source, ceilings or Ceilings())}
    return steps[step].run(folder)


def large(data: bytes, folder: Path) -> Image.Image:
    """Return the largest square of a document."""
    paths = {made.name: made.path for made in run("squares", data, folder).made}
    with Image.open(paths["large"]) as image:
        return image.convert("RGB")


def refusal(step: str, data: bytes, folder: Path) -> str:
    with pytest.raises(Unprocessable) as refused:
        run(step, data, folder)
    return refused.value.code


def outcome(data: bytes, folder: Path) -> str:
    """Return ``drawn``, or the code of the refusal."""
    try:
        return "drawn" if run("squares", data, folder).made else "nothing"
    except Unprocessable as error:
        return error.code


def shows(image: Image.Image, place: tuple[float, float], colour: tuple[int, int, int]) -> bool:
    """Tell whether a picture has a colour, give or take what JPEG does to it, at a place in fractions of its sides."""
    pixel = image.getpixel((int(place[0] * image.width), int(place[1] * image.height)))
    assert isinstance(pixel, tuple)
    return all(abs(seen - wanted) < 12 for seen, wanted in zip(pixel, colour, strict=True))


@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/msword",
        "application/zip",
        "application/postscript",
        "text/plain",
    ],
)
def test_other_documents_are_shown_by_type_and_name_alone(content_type: str, tmp_path: Path) -> None:
    source = Source(path=tmp_path / "none", content_type=content_type, size=0)
    assert document.steps(source, Ceilings()) == []


@pytest.mark.parametrize("pages", [1, 3, 250])
def test_the_facts_count_the_pages(pages: int, tmp_path: Path) -> None:
    assert run("facts", pdf(pages=pages), tmp_path) == Result(facts={"pages": pages})


def test_the_first_page_becomes_the_four_squares(tmp_path: Path) -> None:
    result = run("squares", pdf(fill(RED, 0, 0, *LETTER)), tmp_path)
    assert [made.name for made in result.made] == list(SQUARES)
    for made in result.made:
        with Image.open(made.path) as image:
            assert (made.content_type, image.format, image.size) == ("image/jpeg", "JPEG", 2 * (SQUARES[made.name],))
            assert shows(image, (0.5, 0.5), RED)


def test_the_page_has_placeholders_until_its_picture_has_arrived(tmp_path: Path) -> None:
    facts = run("squares", pdf(fill(BLUE, 0, 0, *LETTER)), tmp_path).facts
    assert set(facts) == {"lqip", "blurhash", "dominant_color"}
    assert facts["lqip"].startswith("data:image/")


def test_an_empty_page_is_white(tmp_path: Path) -> None:
    assert shows(large(pdf(), tmp_path), (0.5, 0.5), WHITE)


def test_the_top_of_a_tall_page_is_shown(tmp_path: Path) -> None:
    image = large(pdf(fill(BLUE, 0, 0, 200, 400) + fill(RED, 0, 400, 200, 200), size=(200, 600)), tmp_path)
    assert shows(image, (0.5, 0.02), RED)
    assert shows(image, (0.5, 0.98), RED)


def test_the_middle_of_a_wide_page_is_shown(tmp_path: Path) -> None:
    image = large(pdf(fill(BLUE, 0, 0, 600, 200) + fill(RED, 200, 0, 200, 200), size=(600, 200)), tmp_path)
    assert shows(image, (0.02, 0.5), RED)
    assert shows(image, (0.98, 0.5), RED)


def test_a_turned_page_is_shown_upright(tmp_path: Path) -> None:
    """Rotate counts clockwise (ISO 32000-1 §7.7.3.3): what was on the left is then at the top."""
    data = pdf(fill(BLUE, 0, 0, 600, 200) + fill(RED, 0, 0, 200, 200), size=(600, 200), page="/Rotate 90")
    image = large(data, tmp_path)
    assert shows(image, (0.5, 0.02), RED)
    assert shows(image, (0.5, 0.98), RED)


@pytest.mark.parametrize(
    "size",
    [(USER_UNIT_LIMIT, USER_UNIT_LIMIT), (1_036_800, 1_036_800), (1, 1), (0.01, 0.01), (0, 0), (-612, -792)],
    ids=["200 inches", "14,400 inches", "a point", "a hundredth", "nothing", "less than nothing"],
)
def test_a_page_of_any_size_is_drawn_in_as_many_pixels(size: tuple[float, float], tmp_path: Path) -> None:
    assert large(pdf(size=size), tmp_path).size == (800, 800)


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (10, 14_400), (3, 100_000_000)])
def test_a_strip_of_a_page_is_drawn_too(size: tuple[float, float], tmp_path: Path) -> None:
    assert shows(large(pdf(fill(RED, 0, 0, *size), size=size), tmp_path), (0.5, 0.5), RED)


def test_a_page_is_drawn_no_larger_than_a_picture_may_be(tmp_path: Path) -> None:
    result = run("squares", pdf(fill(RED, 0, 0, *LETTER)), tmp_path, Ceilings(pixels=100))
    with Image.open(result.made[0].path) as image:
        assert shows(image, (0.5, 0.5), RED)


def test_a_picture_on_the_page_is_measured_before_it_is_decoded(tmp_path: Path) -> None:
    data = pdf(WHOLE_PAGE, picture=grey(50_000, 50_000))
    assert run("facts", data, tmp_path).facts["pages"] == 1
    assert refusal("squares", data, tmp_path) == "too-many-pixels"


def test_a_picture_below_the_ceiling_is_drawn(tmp_path: Path) -> None:
    data = pdf(WHOLE_PAGE, picture=grey(1000, 1000))
    assert run("squares", data, tmp_path).made


def test_scripts_and_forms_are_left_alone(tmp_path: Path) -> None:
    script = "/OpenAction<</S/JavaScript/JS(app.alert\\(1\\);while\\(true\\);)>>/AcroForm<</Fields[]/XFA[]>>"
    assert shows(large(pdf(fill(RED, 0, 0, *LETTER), catalog=script), tmp_path), (0.5, 0.5), RED)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "encryption",
    [f"/Filter/Standard/V 1/R 2/O<{'41' * 32}>/U<{'42' * 32}>/P -4", "/Filter/Unheard-Of/V 1"],
    ids=["password", "unknown scheme"],
)
def test_an_encrypted_document_is_told_apart(encryption: str, step: str, tmp_path: Path) -> None:
    data = pdf(trailer=f"/Encrypt<<{encryption}>>/ID[<00><00>]")
    assert refusal(step, data, tmp_path) == "encrypted"


@pytest.mark.parametrize("step", STEPS)
def test_a_document_without_a_page_is_told_apart_whatever_came_before(step: str, tmp_path: Path) -> None:
    assert refusal(step, b"garbage", tmp_path) == "undecodable"
    assert refusal(step, pdf(pages=0), tmp_path) == "no-page"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "data",
    [b"", b"%PDF-1.7\n", b"<!DOCTYPE html><title>Invoice</title>", b"%PDF-1.7\n" + bytes(5000), pdf()[:60]],
    ids=["nothing", "magic alone", "HTML", "zeros", "cut off before the first page"],
)
def test_what_is_no_document_is_undecodable(data: bytes, step: str, tmp_path: Path) -> None:
    assert refusal(step, data, tmp_path) == "undecodable"


@pytest.mark.parametrize("kids", ["[2 0 R]", "[99 0 R]", "[null]"], ids=["itself", "nowhere", "null"])
def test_a_page_that_is_none_is_undecodable(kids: str, tmp_path: Path) -> None:
    data = pdf().replace(b"[5 0 R]", kids.encode().ljust(7))
    assert outcome(data, tmp_path) in {"undecodable", "no-page"}


def test_cut_off_anywhere_a_document_is_drawn_or_refused(tmp_path: Path) -> None:
    """PDFium finds the objects of a file whose table is missing: only an early cut leaves nothing to see."""
    data = pdf(fill(RED, 0, 0, *LETTER))
    outcomes = [outcome(data[:length], tmp_path) for length in range(0, len(data), 11)]
    assert set(outcomes) <= {"drawn", "undecodable", "no-page"}
    assert (outcomes[0], outcomes[-1]) == ("undecodable", "drawn")


@pytest.mark.parametrize("position", range(0, 700, 50))
def test_garbled_anywhere_a_document_is_drawn_or_refused(position: int, tmp_path: Path) -> None:
    data = bytearray(pdf(fill(RED, 0, 0, *LETTER)))
    data[position : position + 8] = b"\xff\0<<[(/R"
    assert outcome(bytes(data), tmp_path) in {"drawn", "undecodable", "no-page", "encrypted"}
