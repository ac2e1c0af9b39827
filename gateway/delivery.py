"""Whether the gateway sends a stored medium itself or lets the client fetch it from the store (RFC 9110 §15.4.8)."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import ClassVar, Protocol

import structlog

from gateway.minting import Minter
from gateway.responses import Asked, Decision, RawHeaders
from gateway.variants import AUTO, HLS, VARIANTS
from storage.errors import StorageError
from storage.representation import Source
from storage.store import PresignedUrl, Presigner

STANDARD = "STANDARD"
# Intelligent tiering is none of them: it may archive an object by itself, and only the store knows whether it has.
READABLE_TIERS = frozenset({STANDARD, "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "REDUCED_REDUNDANCY"})
"""Storage classes that a client can read from at once."""

# A client sends these again to the store, which has other validators (RFC 9110 §13.1), and so another answer.
_CONDITIONS = {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
# These too: S3 refuses a second credential beside the signature, and none of ours is for it to see.
_CREDENTIALS = {"authorization", "x-api-key", "x-origin-verify"}
_OURS = frozenset(_CONDITIONS | _CREDENTIALS)

log = structlog.get_logger()


class HandedOver(Protocol):
    """An answer by which somebody else sends the bytes."""

    @property
    def status(self) -> int:
        """Of our answer."""

    @property
    def headers(self) -> RawHeaders:
        """All of its fields."""


class Delivery(Protocol):
    """What may let somebody else send a stored medium."""

    async def hand_over(
        self,
        asked: Asked,
        decision: Decision,
        message_id: str,
        key: str | None,
        *,
        tier: str,
        is_playlist: bool,
        peer: str,
    ) -> HandedOver | None:
        """Return the answer by which somebody else sends the bytes, or None to send them.

        Args:
            asked: The request.
            decision: What it gets from us otherwise.
            message_id: Of the message.
            key: Of the object; None where the configured store cannot read it.
            tier: The object's storage class.
            is_playlist: What is served is written for each request.
            peer: The address at the other end of the connection.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """A 307: where the medium is for now."""

    status: ClassVar[int] = 307

    location: str = field(repr=False)
    max_age: int | None
    """For how many seconds the client may go there without asking again; None: it asks every time."""
    variant: str
    """The name of what is there."""
    negotiated: bool
    """Whether it was chosen by ``Accept``."""

    @property
    def headers(self) -> RawHeaders:
        """The fields of the answer; those of the medium, its validators among them, are the store's to send."""
        fields = {
            "location": self.location,
            "cache-control": "no-store" if self.max_age is None else f"private, max-age={self.max_age}",
            "content-length": "0",
            "cross-origin-resource-policy": "cross-origin",
            "referrer-policy": "no-referrer",
            "x-media-source": Source.STORAGE,
            "x-media-variant": self.variant,
        }
        if self.negotiated:
            fields["vary"] = "Accept"
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()]


class Redirection:
    """Sends clients to the store where that serves them the same as we would."""

    def __init__(
        self,
        presigner: Presigner | None,
        edge: Minter | None = None,
        *,
        life: int,
        clock: Callable[[], float] = time,
    ) -> None:
        """Take who can send clients somewhere, if anybody.

        Args:
            presigner: The store.
            edge: What signs for the CDN, which is preferred: it has the variants that are asked for most.
            life: For how many seconds the URLs live.
            clock: Unix seconds.
        """
        self._presigner = presigner
        self._edge = edge
        self._life = life
        self._clock = clock

    async def hand_over(
        self,
        asked: Asked,
        decision: Decision,
        message_id: str,
        key: str | None,
        *,
        tier: str,
        is_playlist: bool,
        peer: str,  # noqa: ARG002 one of several kinds of delivery
    ) -> Redirect | None:
        """Return where to send the client, or None to send it the bytes; a CDN would keep a redirect past itself."""
        for_cdn = asked.cache_tags is not None
        if key is None or for_cdn or is_playlist or not redirectable(asked, decision, tier):
            return None
        presigned = await self._at_edge(asked, message_id) or await self._at_store(decision, key)
        return self._to(presigned, asked) if presigned is not None else None

    async def _at_edge(self, asked: Asked, message_id: str) -> PresignedUrl | None:
        if self._edge is None or asked.shown not in VARIANTS - {HLS}:  # a stream is ours, see `Minter.mint`
            return None
        mint = partial(self._edge.mint, message_id, asked.shown, download=asked.download, expires_in=self._life)
        minted = await asyncio.to_thread(mint)
        return PresignedUrl(minted.url, minted.expires_at)

    async def _at_store(self, decision: Decision, key: str) -> PresignedUrl | None:
        if self._presigner is None:
            return None
        fields = {name.decode("ascii"): value.decode("latin-1") for name, value in decision.headers}
        try:
            return await self._presigner.presign(
                key,
                life=self._life,
                content_type=fields["content-type"],
                content_disposition=fields["content-disposition"],
                cache_control=fields["cache-control"],
            )
        except StorageError as error:  # reading it meets the same fault, and has other layers to turn to
            log.warning("medium could not be presigned", error=type(error).__name__)
            return None

    def _to(self, presigned: PresignedUrl, asked: Asked) -> Redirect:
        max_age = fresh_for(presigned.expires_at, now=self._clock(), life=self._life) if asked.final else None
        return Redirect(
            location=presigned.url,
            max_age=max_age,
            variant=asked.shown.partition("/")[0],
            negotiated=asked.variant == AUTO,
        )


def redirectable(asked: Asked, decision: Decision, tier: str) -> bool:
    """Whether the store would answer the request as we do: with the whole medium, or the one range that is asked for.

    Not a ``HEAD``: the signature is one of a ``GET``. Not a ``Range`` that we ignore or merge: the store may not. Not a
    request with a field for us alone: clients repeat them.
    """
    wanted = asked.headers.get("range")
    as_asked = (200 if wanted is None else 206) == decision.status
    single = decision.parts is None and "," not in (wanted or "")
    return asked.method == "GET" and as_asked and single and tier in READABLE_TIERS and _OURS.isdisjoint(asked.headers)


def fresh_for(expires_at: int, *, now: float, life: int) -> int:
    """Return for how many seconds a redirect may be kept.

    Half of the URL's life is left even then: a player goes on fetching ranges from it without asking us again.
    """
    return max(0, math.floor(expires_at - now) - math.ceil(life / 2))
