"""Counting many answers at once comes to the same as counting them one by one."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.metrics import Metrics
from gateway.metrics.batch import MOST, Answer
from gateway.metrics.histogram import FAST, SLOW
from tests.running import until

ANSWER = Answer("media", "GET", 200, "cache", 8192, from_memory=True)
answers = st.builds(
    Answer,
    route=st.sampled_from(["media", "stream"]),
    method=st.sampled_from(["GET", "HEAD"]),
    status=st.sampled_from([200, 206, 304]),
    source=st.sampled_from(["cache", "storage"]),
    sent=st.integers(0, 1 << 40),
    from_memory=st.booleans(),
)
seconds = st.sampled_from([0.0, *FAST, *SLOW]) | st.integers(0, 400_000).map(lambda thousandths: thousandths / 1024)
"""Durations, among them the bounds of all buckets: such a one belongs below (Prometheus: ``le``)."""


def shown(count: Callable[[Metrics], None]) -> list[str]:
    """Return all samples after something was counted; when each was created does not matter."""
    registry = CollectorRegistry()
    count(Metrics(registry))
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(st.lists(st.tuples(answers, seconds), max_size=20))
def test_a_batch_counts_like_its_answers_one_by_one(answered: list[tuple[Answer, float]]) -> None:
    def one_by_one(metrics: Metrics) -> None:
        for answer, duration in sorted(answered):
            metrics.answered(answer.route, answer.method, answer.status, answer.source, duration)
            metrics.served(answer.source, answer.status, duration, answer.sent)
            if answer.from_memory:
                metrics.cache_read(hit=True)

    def at_once(metrics: Metrics) -> None:
        for answer in sorted({answer for answer, _ in answered}):
            metrics.answered_alike(answer, sorted(duration for other, duration in answered if other == answer))

    # The sum of durations depends in its last digits on the order of its parts.
    assert _samples(shown(at_once)) == pytest.approx(_samples(shown(one_by_one)), rel=1e-12, abs=0)


def _samples(lines: Iterable[str]) -> dict[str, float]:
    named = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in named}


async def test_a_batch_is_counted_when_it_is_large() -> None:
    metrics = Metrics(CollectorRegistry())
    for _ in range(MOST):
        metrics.batch.add(ANSWER, 0.001)
    assert metrics.cache_hits._value.get() == MOST


async def test_a_batch_is_counted_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.metrics.batch.SETTLE", 0.0)
    metrics = Metrics(CollectorRegistry())
    for expected in (1, 2):
        metrics.batch.add(ANSWER, 0.001)
        await until(lambda expected=expected: metrics.cache_hits._value.get() == expected)  # type: ignore[misc] # a default binds the loop's variable
