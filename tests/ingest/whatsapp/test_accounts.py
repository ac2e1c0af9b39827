"""Accounts side by side: what one of them meets is nothing to the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ingest.whatsapp.accounts import Accounts
from ingest.whatsapp.breaker import BreakerPolicy
from ingest.whatsapp.budget import BudgetedOrigin
from storage.errors import OriginBusy, OriginError, OriginFailed, OriginGone, OriginRefused
from storage.origin import Download, MediaRef


class Provider:
    """An origin that delivers, or fails as it is told to."""

    def __init__(self) -> None:
        self.failure: OriginError | None = None
        self.asked: list[str] = []

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        self.asked.append(ref.provider_media_id)
        if self.failure is not None:
            raise self.failure
        yield Download(size=5, content_type=None, sha256=None, chunks=_bytes())


async def _bytes() -> AsyncIterator[bytes]:
    yield b"bytes"


Providers = dict[str, Provider]


@pytest.fixture
def providers() -> Providers:
    return {"a": Provider(), "b": Provider()}


@pytest.fixture
def accounts(providers: Providers) -> Accounts:
    policy = BreakerPolicy(errors=3, window=60, cooldown=30)
    return Accounts({name: BudgetedOrigin(each, breaker=policy, capacity=2) for name, each in providers.items()})


def ref(workspace_id: str, media_id: str = "1") -> MediaRef:
    return MediaRef(workspace_id=workspace_id, provider_media_id=media_id)


async def read(accounts: Accounts, which: MediaRef) -> bytes:
    async with accounts.open(which) as download:
        return b"".join([chunk async for chunk in download.chunks])


async def test_each_workspace_asks_at_its_own_account(accounts: Accounts, providers: Providers) -> None:
    assert await read(accounts, ref("a", "7")) == b"bytes"
    assert (providers["a"].asked, providers["b"].asked) == (["7"], [])


async def test_without_an_account_nobody_is_asked_and_nothing_remembered(
    accounts: Accounts, providers: Providers
) -> None:
    with pytest.raises(OriginRefused):
        await read(accounts, ref("c"))
    accounts.forget(ref("c"))
    assert accounts.states() == {}
    assert providers["a"].asked == providers["b"].asked == []


async def test_a_refused_token_refuses_one_account(accounts: Accounts, providers: Providers) -> None:
    providers["a"].failure = OriginRefused()
    for media_id in "12":
        with pytest.raises(OriginRefused):
            await read(accounts, ref("a", media_id))
    assert providers["a"].asked == ["1"]
    assert await read(accounts, ref("b")) == b"bytes"


async def test_a_breaker_opens_for_one_account(accounts: Accounts, providers: Providers) -> None:
    providers["a"].failure = OriginFailed()
    for media_id in "123":
        with pytest.raises(OriginFailed):
            await read(accounts, ref("a", media_id))
    with pytest.raises(OriginBusy):
        await read(accounts, ref("a", "4"))
    assert await read(accounts, ref("b")) == b"bytes"
    assert accounts.states() == {"a": "open", "b": "closed"}


async def test_what_one_has_to_remember_pushes_nothing_of_another_out(accounts: Accounts, providers: Providers) -> None:
    providers["a"].failure = providers["b"].failure = OriginGone()
    for which in (ref("b"), ref("a", "1"), ref("a", "2"), ref("a", "3"), ref("b")):
        with pytest.raises(OriginGone):
            await read(accounts, which)
    assert providers["b"].asked == ["1"]


async def test_forgetting_is_for_one_account(accounts: Accounts, providers: Providers) -> None:
    providers["a"].failure = providers["b"].failure = OriginRefused()
    for name in "ab":
        with pytest.raises(OriginRefused):
            await read(accounts, ref(name))
    accounts.forget(ref("a"))
    for name in "ab":
        with pytest.raises(OriginRefused):
            await read(accounts, ref(name))
    assert (len(providers["a"].asked), len(providers["b"].asked)) == (2, 1)
