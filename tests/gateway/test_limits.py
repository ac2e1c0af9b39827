"""Token buckets: never more than the burst and the rate, an honest wait, and memory that no flood can fill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Limits, Rate, RateExceeded, TokenBuckets

SECOND = 1_000_000_000


class Clock:
    """Stands still until it is told to go on; in nanoseconds."""

    def __init__(self) -> None:
        self.now = 1_234_567_890_123

    def __call__(self) -> int:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(buckets: TokenBuckets, key: str, tries: int) -> int:
    """Return how many of so many tries were successful."""
    return sum(buckets.take(key) == 0 for _ in range(tries))


rates = st.builds(Rate, st.integers(1, 10**9), st.integers(1, 10**6))
pauses = st.integers(0, 10 * SECOND)


@given(rates, st.lists(st.tuples(pauses, st.integers(1, 50)), max_size=50))
def test_no_window_ever_holds_more_than_the_burst_and_the_rate(rate: Rate, asked: list[tuple[int, int]]) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate, clock=clock)
    moments, totals = [clock.now], [0]
    for pause, tokens in asked:
        clock.now += pause
        allowed = tokens if buckets.take("client", tokens) == 0 else 0
        moments.append(clock.now)
        totals.append(totals[-1] + allowed)
    windows = [
        (total - before, moment - since)
        for i, (since, before) in enumerate(zip(moments[1:], totals, strict=False))
        for moment, total in list(zip(moments[1:], totals[1:], strict=True))[i:]
    ]
    assert all(tokens * SECOND <= rate.burst * SECOND + rate.per_second * span for tokens, span in windows)


@given(rates, st.data())
def test_who_waits_exactly_as_long_as_told_is_let_in(rate: Rate, data: st.DataObject) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate, clock=clock)
    buckets.spend("client", data.draw(st.integers(0, 3 * rate.burst)))
    tokens = data.draw(st.integers(1, rate.burst))
    wait = buckets.take("client", tokens)
    if wait:
        clock.now += RateExceeded(wait).retry_after * SECOND
        assert buckets.take("client", tokens) == 0


@given(rates, st.data())
def test_who_waits_a_second_less_than_told_is_not(rate: Rate, data: st.DataObject) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate, clock=clock)
    buckets.spend("client", rate.burst + data.draw(st.integers(0, 10**9)))
    seconds = RateExceeded(buckets.take("client")).retry_after
    clock.now += (seconds - 1) * SECOND
    assert buckets.take("client") > 0


def test_a_burst_is_there_at_once_and_then_the_rate(clock: Clock) -> None:
    buckets = TokenBuckets(Rate(10, 5), clock=clock)
    assert taken(buckets, "client", 100) == 5
    assert buckets.take("client") == pytest.approx(0.1)
    clock.go_on(0.35)
    assert taken(buckets, "client", 100) == 3
    clock.go_on(3600)
    assert taken(buckets, "client", 100) == 5


def test_keys_do_not_share(clock: Clock) -> None:
    buckets = TokenBuckets(Rate(1, 2), clock=clock)
    assert taken(buckets, "one", 9) == 2
    assert taken(buckets, "other", 9) == 2


def test_a_refused_try_costs_nothing(clock: Clock) -> None:
    buckets = TokenBuckets(Rate(1, 1), clock=clock)
    assert taken(buckets, "client", 1000) == 1
    assert buckets.take("client") == 1.0


def test_more_than_there_is_can_be_spent_and_has_to_be_waited_for(clock: Clock) -> None:
    buckets = TokenBuckets(Rate(10, 100), clock=clock)
    assert buckets.take("client", 0) == 0
    buckets.spend("client", 100)
    assert buckets.take("client", 0) == 0
    buckets.spend("client", 50)
    assert buckets.take("client", 0) == 5.0
    clock.go_on(5)
    assert buckets.take("client", 0) == 0


def test_what_is_given_back_can_be_taken_again_and_never_exceeds_the_burst(clock: Clock) -> None:
    buckets = TokenBuckets(Rate(1, 3), clock=clock)
    assert taken(buckets, "client", 3) == 3
    buckets.give_back("client")
    assert taken(buckets, "client", 3) == 1
    buckets.give_back("client", 1000)
    buckets.give_back("stranger", 1000)
    assert taken(buckets, "client", 9) == 3
    assert taken(buckets, "stranger", 9) == 3


class TestInBoundedMemory:
    """Of 10,000 requests a second from random addresses, and of what could be gained by them."""

    def test_keys_that_owe_nothing_are_forgotten(self, clock: Clock) -> None:
        buckets = TokenBuckets(Rate(100, 1000), clock=clock)
        sizes = []
        for number in range(30_000):  # three seconds of ten thousand new addresses each
            clock.go_on(0.0001)
            assert buckets.take(str(number)) == 0
            sizes.append(len(buckets))
        assert max(sizes) <= 2 * 10_000 / 100  # one request is owed for 1/100 s, in which 100 others come

    def test_a_flood_of_keys_is_no_way_around_a_limit(self, clock: Clock) -> None:
        buckets = TokenBuckets(Rate(1, 5), capacity=50, clock=clock)
        assert taken(buckets, "client", 9) == 5
        for number in range(10_000):
            buckets.take(str(number))
        assert len(buckets) == 50
        assert taken(buckets, "client", 9) == 0

    def test_new_keys_share_a_bucket_while_all_others_owe_something(self, clock: Clock) -> None:
        buckets = TokenBuckets(Rate(1, 5), capacity=50, clock=clock)
        for number in range(50):
            buckets.spend(str(number), 3)
        assert sum(buckets.take(f"new {number}") == 0 for number in range(1000)) == 5
        assert len(buckets) == 50

    def test_there_is_room_again_as_soon_as_others_have_paid(self, clock: Clock) -> None:
        buckets = TokenBuckets(Rate(1, 5), capacity=50, clock=clock)
        for number in range(50):
            buckets.spend(str(number), 3)
        assert sum(buckets.take(f"new {number}") == 0 for number in range(1000)) == 5
        clock.go_on(3)
        assert [taken(buckets, f"new {number}", 9) for number in range(50)] == [5] * 50

    def test_a_debtor_that_was_used_long_ago_does_not_keep_others_from_being_forgotten(self, clock: Clock) -> None:
        buckets = TokenBuckets(Rate(1, 5), capacity=50, clock=clock)
        buckets.spend("debtor", 1_000_000)
        for number in range(1000):
            clock.go_on(1)
            assert buckets.take(str(number)) == 0
        assert len(buckets) < 10
        assert buckets.take("debtor", 0) > 0

    @given(st.lists(st.tuples(pauses, st.integers(0, 20), st.integers(0, 9)), max_size=200))
    def test_never_more_keys_than_the_capacity(self, asked: list[tuple[int, int, int]]) -> None:
        clock = Clock()
        buckets = TokenBuckets(Rate(2, 4), capacity=5, clock=clock)
        for pause, key, tokens in asked:
            clock.now += pause
            (buckets.spend if tokens > 4 else buckets.take)(str(key), tokens)
            assert len(buckets) <= 5

    @given(st.lists(st.tuples(pauses, st.integers(0, 20)), max_size=200))
    def test_no_key_ever_has_more_than_if_there_were_no_others(self, asked: list[tuple[int, int]]) -> None:
        clock = Clock()
        rate = Rate(1, 3)
        shared = TokenBuckets(rate, capacity=4, clock=clock)
        got: dict[int, list[int]] = {}
        for pause, key in asked:
            clock.now += pause
            if shared.take(str(key)) == 0:
                got.setdefault(key, []).append(clock.now)
        for moments in got.values():
            bursts = zip(moments, moments[rate.burst :], strict=False)
            assert all(later - earlier >= SECOND for earlier, later in bursts)


class TestLimits:
    def test_requests_and_bytes_are_both_limited(self, clock: Clock) -> None:
        limits = Limits(Rate(1, 2), Rate(1000, 10_000), clock=clock)
        limits.admit("client")
        limits.sent("client", 15_000)
        with pytest.raises(RateExceeded) as refused:
            limits.admit("client")
        assert refused.value.retry_after == 5
        clock.go_on(5)
        limits.admit("client")
        limits.admit("client")
        with pytest.raises(RateExceeded) as refused:
            limits.admit("client")
        assert refused.value.retry_after == 1

    def test_who_waits_for_bytes_does_not_pay_with_requests(self, clock: Clock) -> None:
        limits = Limits(Rate(1, 1), Rate(1, 1), clock=clock)
        limits.sent("client", 4)
        for _ in range(10):
            with pytest.raises(RateExceeded):
                limits.admit("client")
        clock.go_on(3)
        limits.admit("client")

    def test_who_is_excused_has_made_no_request(self, clock: Clock) -> None:
        limits = Limits(Rate(1, 1), None, clock=clock)
        for _ in range(10):
            limits.admit("client")
            limits.excuse("client")

    def test_without_rates_nothing_is_limited_or_remembered(self) -> None:
        limits = Limits(None, None)
        for _ in range(1000):
            limits.admit("client")
            limits.sent("client", 10**12)
            limits.excuse("client")
        assert limits.remembered == 0

    def test_what_is_remembered_can_be_watched(self, clock: Clock) -> None:
        limits = Limits(Rate(1, 10), Rate(1, 10), clock=clock)
        limits.admit("one")
        limits.admit("other")
        limits.sent("one", 7)
        assert limits.remembered == 3


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/1000", Rate(100, 1000)), ("1/1", Rate(1, 1)), ("50000000/1000000000", Rate(50000000, 10**9)), ("off", None)],
)
def test_a_rate_is_read_as_a_number_per_second_and_one_at_once(text: str, rate: Rate | None) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "100/", "/100", "0/10", "10/0", "-1/10", "1.5/10", "1/1/1", "\u0661/1", "on"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be off|at least 1"):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("wait", "seconds"), [(0.000_000_001, 1), (0.1, 1), (1.0, 1), (1.000_000_001, 2), (59.5, 60), (3600.0, 3600)]
)
def test_retry_after_is_whole_seconds_rounded_up(wait: float, seconds: int) -> None:
    assert RateExceeded(wait).retry_after == seconds
