"""Memory is never over its budget, and what is asked for once does not push out what is asked for again and again."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate, count

import pytest
from cachetools import LRUCache
from hypothesis import given
from hypothesis import strategies as st

from storage.bodies import MIN_REMEMBERED, SECOND_CHANCES, BodyCache

BUDGET = 100

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "wanted"]), st.sampled_from("ab"), st.integers(0, 70)), max_size=200
)
"""What is done, for which workspace, with the body of that many bytes."""


@given(STEPS)
def test_bodies_never_exceed_their_budget_and_are_what_was_put(steps: list[tuple[str, str, int]]) -> None:
    evicted = list[str]()
    cache, put = BodyCache(BUDGET, max_item=60, evicted=evicted.append), dict[tuple[str, str], bytes]()

    for step, workspace, size in steps:
        key, body = (workspace, str(size)), bytes([size]) * size
        if step == "put":
            cache.put(*key, body)
            assert cache.holds(*key) is (size <= 60)
            put[key] = body
        elif step == "get":
            assert cache.get(*key) == (put[key] if cache.holds(*key) else None)
        elif not cache.holds(*key):
            cache.wanted(*key)

        held = {key: body for key, body in put.items() if cache.holds(*key)}
        assert cache.size == sum(map(len, held.values())) <= BUDGET
        assert len(cache) == len(held)
        assert len(cache._asked) <= MIN_REMEMBERED
    assert set(evicted) <= {"new", "popular"}


@pytest.mark.parametrize(
    ("max_bytes", "max_item", "size", "kept"),
    [(100, 60, 60, True), (100, 60, 61, False), (100, 200, 100, True), (100, 200, 101, False), (0, 60, 1, False)],
)
def test_a_body_is_kept_if_it_is_small_enough(max_bytes: int, max_item: int, size: int, *, kept: bool) -> None:
    cache = BodyCache(max_bytes, max_item=max_item)

    cache.put("w", "1", bytes(size))

    assert (cache.get("w", "1") is not None) is kept


def test_a_workspace_does_not_see_the_bodies_of_another() -> None:
    cache = BodyCache(BUDGET, max_item=BUDGET)
    cache.put("w", "1", b"body")

    assert cache.get("v", "1") is None


def test_a_newcomer_that_nobody_reads_goes_first_and_what_is_read_moves_on() -> None:
    evicted = Counter[str]()
    cache = BodyCache(BUDGET, max_item=BUDGET, evicted=lambda queue: evicted.update([queue]))
    for name in "123":
        cache.put("w", name, bytes(30))
    cache.get("w", "1")

    cache.put("w", "4", bytes(30))

    assert [cache.holds("w", name) for name in "1234"] == [True, False, True, True]
    assert evicted == {"new": 1}


def test_what_comes_back_soon_after_it_had_to_go_is_popular() -> None:
    cache = BodyCache(BUDGET, max_item=BUDGET)
    cache.put("w", "back", bytes(10))
    _scan(cache, range(20), size=10)
    assert not cache.holds("w", "back")
    cache.put("w", "back", bytes(10))

    _scan(cache, range(20, 40), size=10)

    assert cache.holds("w", "back")


def test_a_body_is_wanted_when_it_is_asked_for_again_within_some_time() -> None:
    cache = BodyCache(BUDGET, max_item=BUDGET)

    assert [cache.wanted("w", "1"), cache.wanted("v", "1"), cache.wanted("w", "1")] == [False, False, True]
    for number in range(MIN_REMEMBERED):
        cache.wanted("w", f"other {number}")
    assert not cache.wanted("w", "1")


def test_one_eviction_never_turns_over_all_that_is_popular() -> None:
    # It would stall the event loop.
    cache = BodyCache(10 * SECOND_CHANCES, max_item=1)
    names = [str(number) for number in range(10 * SECOND_CHANCES)]
    for name in names:
        cache.wanted("w", name)
        cache.put("w", name, b"x")
        cache.get("w", name)

    cache.put("w", "one more", b"x")

    assert [name for name in names if not cache.holds("w", name)] == [str(SECOND_CHANCES)]


# Hits -----------------------------------------------------------------------------------------------------------------

BODY = bytes(1000)


class _Lru:
    """What there was before."""

    def __init__(self, max_bytes: int) -> None:
        self._bodies: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)

    def get(self, _workspace_id: str, sha256: str) -> bytes | None:
        return self._bodies.get(sha256)

    def put(self, _workspace_id: str, sha256: str, body: bytes) -> None:
        self._bodies[sha256] = body


def zipf(catalogue: int, skew: float, *, scanned: float = 0.0) -> Iterator[str]:
    """Yield names by Zipf's law, always the same, with a share of names among them that come only once."""
    chance, weights = random.Random(1), list(accumulate(rank**-skew for rank in range(1, catalogue + 1)))
    ranks = range(catalogue)
    for number in count():
        once = chance.random() < scanned
        yield f"once {number}" if once else str(chance.choices(ranks, cum_weights=weights)[0])


def hit_ratio(cache: BodyCache | _Lru, names: Iterable[str]) -> float:
    """Return the share of the popular names that were in the cache."""
    hits = Counter[bool]()
    for name in names:
        hit = cache.get("w", name) is not None
        if not hit:
            cache.put("w", name, BODY)
        if not name.startswith("once"):
            hits[hit] += 1
    return hits[True] / hits.total()


@pytest.mark.parametrize("scanned", [0.0, 0.3], ids=["popular names alone", "with a scan"])
@pytest.mark.parametrize(("skew", "margin"), [(0.8, 0.06), (1.0, 0.05), (1.2, 0.02)])
def test_more_reads_hit_than_with_the_least_recently_used(skew: float, margin: float, scanned: float) -> None:
    trace = [name for name, _ in zip(zipf(5000, skew, scanned=scanned), range(30_000), strict=False)]
    memory = 250 * len(BODY)  # a twentieth of the catalogue

    assert hit_ratio(BodyCache(memory, max_item=memory), trace) > hit_ratio(_Lru(memory), trace) + margin


def test_a_scan_does_not_touch_what_is_popular() -> None:
    memory = 100 * len(BODY)
    cache, popular = BodyCache(memory, max_item=memory), [str(number) for number in range(50)]
    for _ in range(3):
        hit_ratio(cache, popular)

    _scan(cache, range(10_000), size=len(BODY))

    assert hit_ratio(cache, popular) == 1.0


def _scan(cache: BodyCache, numbers: Iterable[int], *, size: int) -> None:
    for number in numbers:
        cache.put("w", f"once {number}", bytes(size))
