"""HLS playlists as they are served: every URI in them carries the credential of the playlist's own URL (RFC 8216)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from urllib.parse import urlencode

from gateway.signing import CREDENTIAL
from storage.errors import StoreUnavailable
from storage.representation import Opened, from_memory

MAX_PLAYLIST = 1024 * 1024  # bytes
_ATTRIBUTE = re.compile(r'(URI=")([^"]*)(")')


def credential_of(query: Mapping[str, str]) -> str:
    """Return the part of a request's query that opens the other files of its stream too."""
    return urlencode({name: query[name] for name in (*CREDENTIAL, "download") if name in query})


async def readdressed(opened: Opened, *, folder: str, credential: str) -> Opened:
    """Return an opened playlist whose URIs lie in ``folder``, relative to the request, and are signed as it was.

    Raises:
        StoreUnavailable: What is stored is no playlist.
    """
    if (opened.representation.size or 0) > MAX_PLAYLIST:
        raise StoreUnavailable("The stored playlist is too long.")
    text = b"".join([chunk async for chunk in opened.read(None)]).decode("utf-8", "strict")
    body = readdress(text, folder=folder, credential=credential).encode()
    digest = sha256(body).hexdigest()
    return from_memory(replace(opened.representation, size=len(body), sha256=digest), body)


def readdress(playlist: str, *, folder: str, credential: str) -> str:
    """Return a playlist with a folder before, and a query behind, each of its relative URIs."""

    def address(uri: str) -> str:
        return f"{folder}{uri}?{credential}" if credential else f"{folder}{uri}"

    def line(text: str) -> str:
        if text.startswith("#"):
            return _ATTRIBUTE.sub(lambda match: f"{match[1]}{address(match[2])}{match[3]}", text)
        return address(text) if text.strip() else text

    return "\n".join(map(line, playlist.split("\n")))
