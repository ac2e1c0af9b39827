import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from tests.ingest.processing.pictures_made import Originals, quadrants

CAMERA = {Base.Make: "Google", Base.Model: "Pixel 8"}
SHOT = {
    Base.LensMake: "Google",
    Base.LensModel: "Pixel 8 back camera 6.9mm f/1.68",
    Base.ExposureTime: Fraction(1, 250),
    Base.ExposureBiasValue: Fraction(-1, 3),
    Base.FNumber: Fraction(168, 100),
    Base.ISOSpeedRatings: 64,
    Base.FocalLength: Fraction(69, 10),
    Base.FocalLengthIn35mmFilm: 24,
    Base.DateTimeOriginal: "2024:05:01 12:34:56",
    Base.OffsetTimeOriginal: "+02:00",
}
PRIVATE = {
    Base.Artist: "Ada Private",
    Base.Copyright: "Ada Private",
    Base.ImageDescription: "at Private's",
    Base.XPAuthor: "Ada Private".encode("utf-16-le"),
    Base.XPComment: "Private".encode("utf-16-le"),
    Base.CameraSerialNumber: "Private 1",
    Base.HostComputer: "Private's phone",
}
PRIVATE_SHOT = {
    Base.UserComment: b"ASCII\0\0\0Private",
    Base.MakerNote: b"Private",
    Base.BodySerialNumber: "Private 1",
    Base.LensSerialNumber: "Private 2",
    Base.CameraOwnerName: "Ada Private",
    Base.ImageUniqueID: "Private 3",
}


def exif_of(camera: dict[Any, Any] | None = None, shot: dict[Any, Any] | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(camera or {})
    for tag, value in (shot or {}).items():
        exif.get_ifd(IFD.Exif)[tag] = IFDRational(value) if isinstance(value, Fraction) else value
    return exif


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_the_camera_is_told_by_readable_names(form: str, originals: Originals) -> None:
    picture = originals.save(quadrants(), form, exif=exif_of(CAMERA, SHOT))
    assert picture.facts["exif"] == {
        "camera_make": "Google",
        "camera_model": "Pixel 8",
        "lens_make": "Google",
        "lens_model": "Pixel 8 back camera 6.9mm f/1.68",
        "exposure_time": 0.004,
        "exposure_bias": -0.333333,
        "f_number": 1.68,
        "iso": 64,
        "focal_length": 6.9,
        "focal_length_35mm": 24,
        "taken_at": "2024-05-01T12:34:56+02:00",
    }


def test_nothing_is_told_that_leads_to_a_person_or_a_place(originals: Originals) -> None:
    exif = exif_of(PRIVATE, PRIVATE_SHOT)
    exif.get_ifd(IFD.GPSInfo).update({GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (52.0, 31.0, 12.0)})
    picture = originals.save(quadrants(), "JPEG", exif=exif)
    assert b"Private" in (originals.folder / "original").read_bytes()
    assert picture.facts["exif"] == {}
    assert "Private" not in json.dumps(picture.facts)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_no_rendition_carries_metadata(form: str, originals: Originals) -> None:
    picture = originals.save(quadrants(), form, exif=exif_of(CAMERA, SHOT), xmp=b"<x:xmpmeta/>", comment=b"Pixel 8")
    for step in picture.steps.values():
        for made in step.run(picture.folder).made:
            with Image.open(made.path) as file:
                assert not {"exif", "xmp", "comment", "icc_profile", "photoshop"} & set(file.info), made.name
            assert b"Pixel 8" not in made.path.read_bytes(), made.name


@pytest.mark.parametrize(
    ("shot", "expected"),
    [
        pytest.param({Base.DateTimeOriginal: "2024:05:01 12:34:56"}, "2024-05-01T12:34:56", id="no offset"),
        pytest.param(
            {Base.DateTimeOriginal: "2024:05:01 12:34:56", Base.OffsetTimeOriginal: "nonsense"},
            "2024-05-01T12:34:56",
            id="broken offset",
        ),
        pytest.param({Base.DateTimeOriginal: "0000:00:00 00:00:00"}, None, id="clock was never set"),
        pytest.param({Base.DateTimeOriginal: "    :  :     :  :  "}, None, id="blank"),
        pytest.param({Base.DateTimeOriginal: "yesterday"}, None, id="no time"),
    ],
)
def test_the_time_is_that_of_iso_8601(shot: dict[int, str], expected: str | None, originals: Originals) -> None:
    assert originals.save(quadrants(), "JPEG", exif=exif_of(shot=shot)).facts["exif"].get("taken_at") == expected


@pytest.mark.parametrize(
    ("camera", "shot", "expected"),
    [
        pytest.param({Base.Make: "M" * 5000}, {}, {"camera_make": "M" * 64}, id="long text is cut"),
        pytest.param({Base.Make: " \0\x1b[31mMake\n\0 "}, {}, {"camera_make": "[31mMake"}, id="control characters"),
        pytest.param({Base.Make: " \0 "}, {}, {}, id="nothing but padding"),
        pytest.param({}, {Base.ExposureTime: (0, 0)}, {}, id="0/0"),
        pytest.param({}, {Base.FNumber: (1, 0)}, {}, id="1/0"),
        pytest.param({}, {Base.FNumber: "f/2"}, {}, id="text for a number"),
        pytest.param({}, {Base.ISOSpeedRatings: (100, 200)}, {"iso": 100}, id="two for one"),
        pytest.param({}, {Base.LensModel: 7}, {}, id="a number for text"),
    ],
)
def test_what_makes_no_sense_is_left_out(
    camera: dict[int, Any], shot: dict[int, Any], expected: dict[str, Any], originals: Originals
) -> None:
    exif = exif_of(camera)
    for tag, value in shot.items():
        rational = tag in {Base.ExposureTime, Base.FNumber} and isinstance(value, tuple)
        exif.get_ifd(IFD.Exif)[tag] = IFDRational(*value) if rational else value
    assert originals.save(quadrants(), "JPEG", exif=exif).facts["exif"] == expected


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="no TIFF header"),
        pytest.param(b"II*\0\xff\xff\xff\xff", id="the directory is nowhere"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff", id="it has no room for its entries"),
        pytest.param(
            b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\xff\xff\xff\x7f\0\0\0\0", id="its child is nowhere"
        ),
        pytest.param(b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0", id="the orientation is text"),
        pytest.param(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0", id="the orientation is 99"),
    ],
)
def test_broken_exif_costs_nothing_else(data: bytes, originals: Originals) -> None:
    picture = originals.save(quadrants(), "JPEG", exif=b"Exif\0\0" + data)
    assert picture.facts["exif"] == {}
    assert picture.facts["width"] == quadrants().width
    assert picture.opened("large").size == (800, 800)
