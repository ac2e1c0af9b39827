"""When the provider is asked, and when it is spared: the breaker as a value, and the origin around it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator import Profile as SimulatedProfile
from ingest.simulator import Simulator, serve
from ingest.whatsapp.breaker import PROBE_WAIT, Breaker, BreakerPolicy
from ingest.whatsapp.budget import BudgetedOrigin, MemoryPolicy
from ingest.whatsapp.client import WhatsAppClient
from ingest.whatsapp.provider import DIALOG360, META, Account
from ingest.whatsapp.provider import Provider as WhatsAppProvider
from storage.errors import (
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginGone,
    OriginLied,
    OriginRefused,
    OriginTimeout,
    OriginTooLarge,
)
from storage.origin import Download, MediaRef

POLICY = BreakerPolicy(errors=3, window=60.0, cooldown=30.0)
FAILED = OriginFailed()


# The breaker -------------------------------------------------------------------------------------------------------


def failing(breaker: Breaker, *times: float) -> Breaker:
    for at in times:
        breaker = breaker.admitted().failed(FAILED, at)
    return breaker


@pytest.mark.parametrize(
    ("errors", "now", "state", "wait"),
    [
        pytest.param([], 0, "closed", 0, id="nothing has happened"),
        pytest.param([0, 10], 10, "closed", 0, id="fewer errors than it takes"),
        pytest.param([0, 10, 20], 20, "open", 30, id="enough of them"),
        pytest.param([0, 10, 20], 49, "open", 1, id="shortly before the cooldown ends"),
        pytest.param([0, 10, 20], 50, "half-open", 0, id="cooled down"),
        pytest.param([0, 10, 61], 61, "closed", 0, id="the first has left the window"),
        pytest.param([0, 10, 20, 25], 25, "open", 25, id="an error of a call from before does not prolong it"),
        pytest.param([0, 10, 20, 50], 50, "open", 30, id="the probe has failed"),
    ],
)
def test_the_state_follows_the_errors(errors: list[float], now: float, state: str, wait: float) -> None:
    breaker = failing(Breaker(policy=POLICY), *errors)
    assert (breaker.state(now), breaker.wait(now)) == (state, wait)


def test_one_probe_passes_at_a_time() -> None:
    probing = failing(Breaker(policy=POLICY), 0, 0, 0).admitted()
    assert (probing.state(30), probing.wait(30)) == ("half-open", PROBE_WAIT)
    assert probing.abandoned().wait(30) == 0


def test_a_probe_that_succeeds_closes_it() -> None:
    probed = failing(Breaker(policy=POLICY), 0, 0, 0).admitted().succeeded(30)
    assert (probed.state(30), probed.wait(30)) == ("closed", 0)


def test_errors_count_on_after_a_probe_as_they_do_at_the_provider() -> None:
    probed = failing(Breaker(policy=POLICY), 0, 0, 0).admitted().succeeded(30)
    assert failing(probed, 31).state(31) == "open"
    assert failing(probed, 61).state(61) == "closed"


def test_a_late_success_does_not_close_an_open_one() -> None:
    late = failing(Breaker(policy=POLICY).admitted(), 0, 0, 0).succeeded(1)
    assert late.state(1) == "open"


@pytest.mark.parametrize("error", [OriginGone(), OriginRefused(), OriginTooLarge()])
def test_what_is_not_the_providers_fault_proves_it_alive(error: OriginError) -> None:
    probed = failing(Breaker(policy=POLICY), 0, 0, 0).admitted().failed(error, 30)
    assert probed.state(30) == "closed"


@pytest.mark.parametrize(
    ("error", "at_meta"),
    [
        (OriginFailed(), True),
        (OriginLied(), True),
        (OriginTimeout(), True),
        (OriginBusy(), True),
        (OriginGone(), False),
        (OriginRefused(), False),
        (OriginTooLarge(), False),
    ],
)
def test_meta_counts_what_may_pass_and_360dialog_counts_everything(error: OriginError, *, at_meta: bool) -> None:
    assert META.breaker.counts(error) is at_meta
    assert DIALOG360.breaker.counts(error)


def test_a_burst_is_held_back_where_all_of_it_could_fail() -> None:
    breaker = Breaker(policy=BreakerPolicy(errors=3, window=60, cooldown=30, ceiling=4))
    for _ in range(4):
        assert breaker.wait(0) == 0
        breaker = breaker.admitted()
    assert breaker.wait(0) == PROBE_WAIT
    assert breaker.succeeded(0).wait(0) == 0


def test_a_probe_waits_too_where_the_provider_would_block_us_for_it() -> None:
    breaker = Breaker(policy=BreakerPolicy(errors=3, window=60, cooldown=30, ceiling=3))
    assert failing(breaker, 0, 10, 20).wait(50) == 10  # until the error at 0 leaves the window


@given(st.lists(st.tuples(st.floats(0, 900), st.sampled_from(["begin", "fail", "succeed", "abandon"])), max_size=300))
def test_360dialog_never_sees_twenty_errors_in_an_hour(events: list[tuple[float, str]]) -> None:
    breaker, now, errors = Breaker(policy=DIALOG360.breaker), 0.0, []
    for pause, event in events:
        now += pause if event == "begin" else 0
        if event == "begin" and breaker.wait(now) == 0:
            breaker = breaker.admitted()
        elif event != "begin" and breaker.under_way:
            if event == "fail":
                errors.append(now)
                breaker = breaker.failed(OriginGone(), now)
            else:
                breaker = breaker.succeeded(now) if event == "succeed" else breaker.abandoned()
        assert len([at for at in errors if at > now - 3600]) < 20
        assert breaker.wait(now) >= 0


@given(st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_whoever_waits_as_told_is_admitted(pauses: list[float]) -> None:
    breaker, now = Breaker(policy=DIALOG360.breaker), 0.0
    for pause in pauses:
        now += pause + breaker.wait(now + pause) * (1 + 1e-9)
        assert breaker.wait(now) == 0
        breaker = breaker.admitted().failed(FAILED, now)


async def test_360dialog_is_never_driven_to_block_us() -> None:
    simulator = Simulator(access_token="t", profile=SimulatedProfile.DIALOG360)
    async with serve(simulator) as endpoints:
        target = WhatsAppProvider(base_url=endpoints.graph_url, profile=DIALOG360)
        async with WhatsAppClient(target, Account(workspace_id="a", access_token="t")) as client:
            origin = BudgetedOrigin(client, breaker=DIALOG360.breaker)
            reads = (read(origin, ref(str(media_id))) for media_id in range(1, 60))
            outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {OriginGone, OriginBusy}
    assert len(simulator.requests) < 20
    assert {entry.status for entry in simulator.requests} == {400}


# The origin around it ----------------------------------------------------------------------------------------------


class Provider:
    """An origin that does what its script says: raises, breaks off after the first bytes, or delivers."""

    def __init__(self) -> None:
        self.script: list[OriginError | None] = []
        self.breaks_off: OriginError | None = None
        self.asked: list[MediaRef] = []
        self._gate = asyncio.Event()
        self._arrived = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        """Let callers wait from now on."""
        self._gate.clear()
        self._arrived.clear()

    def release(self) -> None:
        self._gate.set()

    async def reached(self) -> None:
        """Wait until a caller is held."""
        async with asyncio.timeout(5):
            await self._arrived.wait()

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        self.asked.append(ref)
        self._arrived.set()
        await self._gate.wait()
        if self.script and (error := self.script.pop(0)) is not None:
            raise error
        yield Download(size=5, content_type=None, sha256=None, chunks=self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield b"bytes"
        if self.breaks_off is not None:
            raise self.breaks_off


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def origin(provider: Provider, clock: Clock) -> BudgetedOrigin:
    return budgeted(provider, clock)


def budgeted(
    provider: Provider, clock: Clock, *, policy: BreakerPolicy = POLICY, jitter: float = 0.0
) -> BudgetedOrigin:
    memory = MemoryPolicy(gone=3600, refused=60, busy=60, failed=5, jitter=0.5)
    return BudgetedOrigin(provider, breaker=policy, memory=memory, clock=clock, jitter=lambda: jitter)


def ref(media_id: str = "1", workspace_id: str = "a") -> MediaRef:
    return MediaRef(workspace_id=workspace_id, provider_media_id=media_id)


async def read(origin: BudgetedOrigin, which: MediaRef | None = None) -> bytes:
    async with origin.open(which or ref()) as download:
        return b"".join([chunk async for chunk in download.chunks])


async def test_a_medium_passes_through(origin: BudgetedOrigin) -> None:
    async with origin.open(ref()) as download:
        assert download.size == 5
        assert [chunk async for chunk in download.chunks] == [b"bytes"]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        pytest.param(OriginGone(), 3600, id="gone: long"),
        pytest.param(OriginTooLarge(), 3600, id="too large: long"),
        pytest.param(OriginRefused(), 60, id="refused: a minute"),
        pytest.param(OriginBusy(retry_after=1140), 1140, id="busy: as long as it says"),
        pytest.param(OriginBusy(), 60, id="busy: as long as we guess"),
        pytest.param(OriginFailed(), 5, id="failed: seconds"),
        pytest.param(OriginFailed(retry_after=120), 120, id="failed: as long as it says"),
        pytest.param(OriginLied(), 5, id="lied: seconds"),
        pytest.param(OriginTimeout(), 5, id="too slow: seconds"),
    ],
)
async def test_an_error_is_remembered_by_its_cause(
    origin: BudgetedOrigin, provider: Provider, clock: Clock, error: OriginError, seconds: float
) -> None:
    provider.script = [error]
    for later in (0.0, 0.0, seconds - 0.5):
        clock.now = 1000.0 + later
        with pytest.raises(type(error), match=str(error)) as caught:
            await read(origin)
        assert type(caught.value) is type(error)
    assert len(provider.asked) == 1
    clock.now = 1000.0 + seconds
    assert await read(origin) == b"bytes"


@pytest.mark.parametrize(
    ("error", "expected"),
    [(OriginBusy(retry_after=100), 60), (OriginRefused(), 20), (OriginGone(), None), (OriginTooLarge(), None)],
)
async def test_a_remembered_error_says_how_long_is_left_where_waiting_helps(
    origin: BudgetedOrigin, provider: Provider, clock: Clock, error: OriginError, expected: float | None
) -> None:
    provider.script = [error]
    with pytest.raises(OriginError):
        await read(origin)
    clock.now += 40
    with pytest.raises(OriginError) as caught:
        await read(origin)
    assert caught.value.retry_after == expected


@pytest.mark.parametrize(("error", "seconds"), [(OriginBusy(retry_after=10), 15), (OriginFailed(), 7.5)])
async def test_jitter_stretches_and_never_shortens(
    provider: Provider, clock: Clock, error: OriginError, seconds: float
) -> None:
    origin = budgeted(provider, clock, jitter=1.0)
    provider.script = [error]
    with pytest.raises(OriginError):
        await read(origin)
    clock.now += seconds - 0.1
    with pytest.raises(OriginError):
        await read(origin)
    clock.now += 0.1
    assert await read(origin) == b"bytes"


async def test_an_error_is_remembered_of_its_medium_only(origin: BudgetedOrigin, provider: Provider) -> None:
    provider.script = [OriginGone()]
    with pytest.raises(OriginGone):
        await read(origin, ref("1", "a"))
    assert await read(origin, ref("2", "a")) == b"bytes"
    assert await read(origin, ref("1", "b")) == b"bytes"


async def test_a_refused_token_is_remembered_of_its_whole_account(origin: BudgetedOrigin, provider: Provider) -> None:
    provider.script = [OriginRefused()]
    for media_id in ("1", "2"):
        with pytest.raises(OriginRefused):
            await read(origin, ref(media_id, "a"))
    assert await read(origin, ref("1", "b")) == b"bytes"


@pytest.mark.parametrize("error", [OriginGone(), OriginRefused(), OriginBusy(), OriginFailed()])
async def test_what_is_forgotten_is_asked_again(origin: BudgetedOrigin, provider: Provider, error: OriginError) -> None:
    provider.script = [error]
    with pytest.raises(OriginError):
        await read(origin)
    origin.forget(ref())
    assert await read(origin) == b"bytes"


async def test_forgetting_what_is_not_known_does_nothing(origin: BudgetedOrigin) -> None:
    origin.forget(ref("unknown"))


async def open_breaker(origin: BudgetedOrigin, provider: Provider) -> None:
    provider.script = [OriginFailed()] * 3
    for media_id in "123":
        with pytest.raises(OriginFailed):
            await read(origin, ref(media_id))


async def test_an_open_breaker_spares_the_provider_and_says_how_long(
    origin: BudgetedOrigin, provider: Provider, clock: Clock
) -> None:
    await open_breaker(origin, provider)
    clock.now += 10
    with pytest.raises(OriginBusy) as caught:
        await read(origin, ref("4"))
    assert caught.value.retry_after == 20
    assert len(provider.asked) == 3


async def test_an_open_breaker_is_not_closed_by_forgetting(origin: BudgetedOrigin, provider: Provider) -> None:
    await open_breaker(origin, provider)
    origin.forget(ref("1"))
    with pytest.raises(OriginBusy):
        await read(origin, ref("1"))


async def test_every_account_has_its_own_breaker(origin: BudgetedOrigin, provider: Provider) -> None:
    await open_breaker(origin, provider)
    assert await read(origin, ref("1", "b")) == b"bytes"
    assert origin.states() == {"a": "open", "b": "closed"}


async def test_after_the_cooldown_one_probe_decides(origin: BudgetedOrigin, provider: Provider, clock: Clock) -> None:
    await open_breaker(origin, provider)
    clock.now += 30
    assert origin.states() == {"a": "half-open"}
    provider.hold()
    probe = asyncio.create_task(read(origin, ref("4")))
    await provider.reached()
    with pytest.raises(OriginBusy):
        await read(origin, ref("5"))
    provider.release()
    assert await probe == b"bytes"
    assert origin.states() == {"a": "closed"}


async def test_a_cancelled_probe_decides_nothing(origin: BudgetedOrigin, provider: Provider, clock: Clock) -> None:
    await open_breaker(origin, provider)
    clock.now += 30
    provider.hold()
    probe = asyncio.create_task(read(origin, ref("4")))
    await provider.reached()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert origin.states() == {"a": "half-open"}
    provider.release()
    assert await read(origin, ref("4")) == b"bytes"


async def test_a_reader_that_leaves_or_is_cancelled_is_nobodys_fault(
    origin: BudgetedOrigin, provider: Provider
) -> None:
    for fault in (asyncio.CancelledError(), RuntimeError("the reader's own")):
        for _ in range(4):
            with pytest.raises(type(fault)):  # noqa: PT012 the fault is raised inside the context
                async with origin.open(ref()) as download:
                    await anext(download.chunks)
                    raise fault
    async with origin.open(ref()):
        pass
    assert origin.states() == {"a": "closed"}
    assert await read(origin) == b"bytes"


async def test_a_body_that_breaks_off_counts_once(origin: BudgetedOrigin, provider: Provider, clock: Clock) -> None:
    provider.breaks_off = OriginFailed("The bytes broke off.")
    for media_id, state in (("1", "closed"), ("2", "closed"), ("3", "open")):
        with pytest.raises(OriginFailed, match="broke off"):
            await read(origin, ref(media_id))
        assert origin.states() == {"a": state}
    with pytest.raises(OriginFailed, match="broke off"):
        await read(origin, ref("1"))
    assert len(provider.asked) == 3


async def test_a_reader_that_hides_the_broken_body_hides_nothing(origin: BudgetedOrigin, provider: Provider) -> None:
    provider.breaks_off = OriginFailed()
    async with origin.open(ref()) as download:
        try:
            async for _ in download.chunks:
                pass
        except OriginFailed:
            provider.breaks_off = None
    with pytest.raises(OriginFailed):
        await read(origin)


async def test_a_hash_that_the_reader_finds_wrong_is_remembered(origin: BudgetedOrigin, provider: Provider) -> None:
    with pytest.raises(OriginLied):
        async with origin.open(ref()):
            raise OriginLied
    with pytest.raises(OriginLied):
        await read(origin)
    assert len(provider.asked) == 1


async def test_remembering_keeps_no_traceback_alive(origin: BudgetedOrigin, provider: Provider) -> None:
    error = OriginGone("once")
    provider.script = [error]
    seen: list[Any] = []
    for _ in range(2):
        with pytest.raises(OriginGone) as caught:
            await read(origin)
        seen.append(caught.value)
    assert seen[0] is error
    assert seen[1] is not error
