"""Makes the media of the demo's chat: real files of every kind that WhatsApp knows."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.demo.film import make_film
from gateway.demo.receipt import make_receipt
from gateway.demo.sticker import make_stickers

HERE = Path(__file__).parent
PHOTOS = HERE / "photos"
VOICE_NOTE = HERE / "voice.ogg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One message of the demo's chat and the file it carries."""

    kind: Literal["image", "video", "audio", "document", "sticker"]
    path: Path
    mime_type: str
    """As the provider declares it, parameters included."""
    sender: Literal["them", "us"] = "them"
    filename: str | None = None
    """Only documents have one."""
    caption: str | None = None
    """Never on audio or stickers."""
    voice: bool = False
    """Whether the audio was recorded in the chat."""


def build_samples(folder: Path) -> list[Sample]:
    """Return the chat from its first message to its last, its files in ``folder``, which must exist.

    The files are the same on every run. Encoding takes up to three seconds of CPU: call it in a thread.
    """
    photos = {photo.stem: Path(shutil.copy(photo, folder)) for photo in sorted(PHOTOS.glob("*.jpg"))}
    voice_note = Path(shutil.copy(VOICE_NOTE, folder))
    film, receipt = folder / "film.mp4", folder / "receipt.pdf"
    sticker, animated_sticker = folder / "sticker.webp", folder / "animated-sticker.webp"
    make_film([photos[name] for name in ("rocket", "astronaut", "coffee", "cat", "hubble")], film)
    make_receipt(photos["rocket"], receipt)
    make_stickers(sticker, animated_sticker)
    return [
        _photo(photos["rocket"], "We made it to the launch site. Look at that sky!"),
        _photo(photos["astronaut"], "And this is the one I came for."),
        Sample(kind="sticker", path=animated_sticker, mime_type="image/webp", sender="us"),
        Sample(kind="audio", path=voice_note, mime_type="audio/ogg; codecs=opus", voice=True),
        _photo(photos["coffee"], "Coffee before the countdown"),
        Sample(kind="video", path=film, mime_type="video/mp4", caption="The whole day in twelve seconds"),
        Sample(
            kind="document",
            path=receipt,
            mime_type="application/pdf",
            sender="us",
            filename="Receipt 2026-1114-07.pdf",
            caption="Here is your receipt, the ticket is on page two.",
        ),
        _photo(photos["cat"], "Somebody waited at home"),
        _photo(photos["hubble"], "The view tonight: every dot is a galaxy."),
        Sample(kind="sticker", path=sticker, mime_type="image/webp", sender="us"),
    ]


def _photo(path: Path, caption: str) -> Sample:
    return Sample(kind="image", path=path, mime_type="image/jpeg", caption=caption)
