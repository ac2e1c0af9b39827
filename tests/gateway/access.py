"""People with credentials of every kind, for HTTP tests of who may do what."""

from time import time
from typing import Any

from tests.gateway.issuer import CLAIMS, SECRET, hs256

JWT_SECRET = SECRET.decode()
ORIGIN_SECRET = "the-edge-of-this-year"
OLD_ORIGIN_SECRET = "the-edge-of-last-year"
ACCESS = {"MEDIA_JWT_SECRET": JWT_SECRET, "MEDIA_ORIGIN_SECRET": f"{ORIGIN_SECRET},{OLD_ORIGIN_SECRET}"}
"""The environment of a gateway that knows them all."""

CDN = {"X-Origin-Verify": ORIGIN_SECRET}
PUBLIC = "max-age=31536000, public, immutable, no-transform"
FOR_CDNS = {"cdn-cache-control", "cache-tag"}


def claims(**changes: Any) -> dict[str, Any]:
    """Return what is said of Ana, who is in the workspace ``default``; a change to None leaves the claim out."""
    said = CLAIMS | {"workspace_ids": ["default"], "exp": int(time()) + 86_400} | changes
    return {name: value for name, value in said.items() if value is not None}


def token(**changes: Any) -> str:
    """Return a token of Ana's, signed with the shared secret."""
    return hs256(claims(**changes))


def bearer(credential: str) -> dict[str, str]:
    """Return the field that carries a token."""
    return {"Authorization": f"Bearer {credential}"}


def cookie(credential: str) -> dict[str, str]:
    """Return the field in which a browser carries it."""
    return {"Cookie": f"media_token={credential}"}
