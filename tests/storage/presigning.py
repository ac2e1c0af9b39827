"""Presigned URLs as tests ask for them and read them."""

import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from storage.store import PresignedUrl, Presigner

LIFE = 600
NOW = 1_790_000_000.0  # 2026-09-21, 20 seconds into a tenth of LIFE
ROUNDED = 1_789_999_980
KEY = "media/wamid.HBg==/a+b c"
SECRET = "wJalrXUtnFEMI/K7MDENG"


class Clock:
    """Unix seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


async def presign(
    store: Presigner,
    key: str = KEY,
    *,
    life: int = LIFE,
    content_type: str = "image/jpeg",
    disposition: str = 'inline; filename="a.jpg"',
    cache_control: str = "private, max-age=86400",
) -> PresignedUrl | None:
    """Ask for a URL."""
    return await store.presign(
        key, life=life, content_type=content_type, content_disposition=disposition, cache_control=cache_control
    )


async def presigned(store: Presigner, key: str = KEY, **asked: Any) -> PresignedUrl:
    """Get a URL."""
    found = await presign(store, key, **asked)
    assert found is not None
    return found


def query_of(url: str) -> dict[str, str]:
    """Return the decoded parameters of a URL."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))


def expected_signature(url: str, secret: str) -> str:
    """Compute the signature of a presigned GET as Signature Version 4 defines it, from the URL alone."""
    parts = urlsplit(url)
    pairs = sorted(pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-Signature="))
    canonical = ["GET", parts.path, "&".join(pairs), f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"]
    scope = query_of(url)["X-Amz-Credential"].partition("/")[2]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = b"AWS4" + secret.encode()
    for part in [*scope.split("/"), f"AWS4-HMAC-SHA256\n{query_of(url)['X-Amz-Date']}\n{scope}\n{digest}"]:
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
