"""Mints signed URLs: for one medium, or for a whole chat history at once."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.audit import Action
from gateway.auth import Grant
from gateway.bodies import json_response, read_json, timestamp
from gateway.errors import Deleted, Forbidden, NotFound
from gateway.minting import Minter
from gateway.signing import DEFAULT_LIFE, MAX_LIFE, SignedUrl
from gateway.subjects import base_of, live, path_id
from gateway.variants import ORIGINAL, VARIANTS
from ingest.registry import Registry
from storage.record import MediaRecord, valid_message_id

MAX_URLS = 200  # in one request


def _message_id(text: str) -> str:
    if not valid_message_id(text):
        raise ValueError("has 1 to 255 characters, none of them a control character")
    return text


def _variant(text: str) -> str:
    if text not in VARIANTS:
        raise ValueError("there is no such variant")
    return text


class UrlOrder(BaseModel):
    """The body of ``POST /media/messages/{id}/url``."""

    variant: Annotated[str, AfterValidator(_variant)] = ORIGINAL
    download: bool = False
    expires_in: Annotated[int, Field(ge=1, le=MAX_LIFE)] = DEFAULT_LIFE


class NamedUrlOrder(UrlOrder):
    """One of the URLs of a whole chat history."""

    message_id: Annotated[str, AfterValidator(_message_id)]


class UrlOrders(BaseModel):
    """The body of ``POST /media/urls``."""

    urls: Annotated[list[NamedUrlOrder], Field(max_length=MAX_URLS)]


class Urls:
    """The endpoints, for the backend and for a token's holder."""

    def __init__(self, *, admission: Admission, minter: Minter, registry: Registry) -> None:
        self._admission = admission
        self._minter = minter
        self._registry = registry

    async def mint(self, request: Request) -> Response:
        """Mint a signed URL for one variant."""
        grant = await self._admission.user(request)
        record = await live(self._registry, path_id(request), partial(self._admission.check, request.scope, grant))
        order = await read_json(request, UrlOrder)
        minted = await asyncio.to_thread(self._minted, record.message_id, order, base_of(request))
        self._admission.done(Action.MINT, request.scope, grant, record, variant=order.variant)
        return json_response({"url": minted.url, "expires_at": timestamp(minted.expires_at)})

    async def mint_many(self, request: Request) -> Response:
        """Mint the URLs of a whole chat history; what may not be minted has an ``error`` in place of its URL."""
        grant = await self._admission.user(request)
        orders = (await read_json(request, UrlOrders)).urls
        known = await self._registry.get_many([order.message_id for order in orders])
        found = [known.get(order.message_id) for order in orders]
        errors = [_obstacle(record, grant) for record in found]
        if not self._minter.can_mint:
            raise Forbidden("No signing key is configured: set MEDIA_SIGNING_KEYS.")
        minted = await asyncio.to_thread(self._all_minted, orders, errors, base_of(request))
        for order, record, error in zip(orders, found, errors, strict=True):
            if error is None:
                self._admission.done(Action.MINT, request.scope, grant, record, variant=order.variant)
            elif record is not None and not grant.opens(record):
                self._admission.done(Action.REFUSED, request.scope, grant, record, variant=order.variant, status=404)
        return json_response({"urls": minted})

    def _all_minted(
        self, orders: Sequence[NamedUrlOrder], errors: Sequence[str | None], base: str
    ) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        for order, error in zip(orders, errors, strict=True):
            if error is not None:
                answers.append({"message_id": order.message_id, "error": error})
                continue
            minted = self._minted(order.message_id, order, base)
            answers.append(
                {"message_id": order.message_id, "url": minted.url, "expires_at": timestamp(minted.expires_at)}
            )
        return answers

    def _minted(self, message_id: str, order: UrlOrder, base: str) -> SignedUrl:
        """Mint one URL. Blocking: with a CDN's RSA key it takes most of a millisecond."""
        return self._minter.mint(
            message_id, order.variant, download=order.download, expires_in=order.expires_in, base=base
        )


def _obstacle(record: MediaRecord | None, grant: Grant) -> str | None:
    """Return why a URL may not be minted, in the words of the contract's problem types; None: it may."""
    if record is None or not grant.opens(record):
        return NotFound.code
    return Deleted.code if record.deleted_at is not None else None
