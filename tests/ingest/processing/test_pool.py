"""A hostile medium costs the step that it attacks, whatever it does there; real children, really attacked."""

import hashlib
from contextlib import aclosing

import pytest

from ingest.processing.children import PoolUnavailable
from ingest.processing.pool import Failed, Finished
from tests.ingest.processing.pools import TEXT, OpenPool
from tests.running import turns_of_others

MEBI = 1024 * 1024


async def test_a_rendition_is_a_file_in_the_callers_folder_with_its_size_and_hash(open_pool: OpenPool) -> None:
    observed = open_pool()
    folder = observed.folder()
    async with aclosing(observed.pool.process(observed.source("none"), folder)) as events:
        facts, squares, compressed = [event async for event in events]
    assert isinstance(facts, Finished)
    assert isinstance(squares, Finished)
    assert isinstance(compressed, Finished)
    assert facts.facts["text"] == TEXT, "a child reads the original"
    assert (facts.step, facts.renditions) == ("facts", ())
    (small,) = squares.renditions
    assert (small.name, small.path, small.content_type) == ("small", folder / "small.jpg", "image/jpeg")
    assert (small.size, small.sha256) == (5, hashlib.sha256(b"small").hexdigest())
    assert small.path.read_bytes() == b"small"
    assert observed.original.read_text() == TEXT
    assert observed.ended.steps == [("facts", "made"), ("squares", "made"), ("compressed", "made")]


ATTACKS = [
    # what it does, what the limit is, what its step has failed with, what has become of the child
    pytest.param("raise", {}, "undecodable", None, id="raises anything"),
    pytest.param("refuse", {}, "too-many-frames", None, id="is refused by its decoder"),
    pytest.param("allocate", {"memory": 256 * MEBI}, "out-of-memory", "worn", id="allocates endlessly"),
    pytest.param("write-much", {"output": MEBI}, "output-too-large", None, id="writes 10 GB"),
    pytest.param("open-much", {}, "too-many-files", None, id="opens 10,000 files"),
    pytest.param("know-nan", {}, "undecodable", None, id="learns a fact that is no number"),
    pytest.param("know-code", {}, "undecodable", None, id="learns a fact that is no JSON"),
    pytest.param("claim-a-link", {}, "undecodable", None, id="makes a symbolic link"),
    pytest.param("spin", {"seconds": 1.0}, "too-slow", "too-slow", id="spins in C"),
    pytest.param("sleep", {"seconds": 1.0}, "too-slow", "too-slow", id="sleeps"),
    pytest.param("stay-silent", {"seconds": 1.0}, "bad-answer", "bad-answer", id="closes the pipe and sleeps"),
    pytest.param("segfault", {}, "crashed", "crashed", id="reads where nothing is"),
    pytest.param("abort", {}, "crashed", "crashed", id="aborts"),
    pytest.param("leave", {}, "crashed", "crashed", id="exits"),
    pytest.param("be-killed", {}, "out-of-memory", "out-of-memory", id="is killed as the kernel kills"),
    pytest.param("say-garbage", {}, "bad-answer", "bad-answer", id="says garbage"),
    pytest.param("say-much", {}, "bad-answer", "bad-answer", id="says a line without end"),
    pytest.param("say-done", {}, "bad-answer", "bad-answer", id="says done in the middle"),
    pytest.param("say-again", {}, "bad-answer", "bad-answer", id="begins a step again"),
    pytest.param("say-another", {}, "bad-answer", "bad-answer", id="ends another step"),
    pytest.param("know-nul", {}, "bad-answer", "bad-answer", id="learns a fact with a NUL"),
    pytest.param("know-much", {}, "bad-answer", "bad-answer", id="learns a megabyte of facts"),
    pytest.param("claim-elsewhere", {}, "bad-answer", "bad-answer", id="claims a file of the system"),
    pytest.param("claim-the-original", {}, "bad-answer", "bad-answer", id="claims the original"),
]


@pytest.mark.parametrize(("attack", "limits", "code", "end"), ATTACKS)
async def test_a_medium_that(
    open_pool: OpenPool, attack: str, limits: dict[str, float], code: str, end: str | None
) -> None:
    """It costs its step; those before and after it are done, and the pool goes on with the next medium."""
    observed = open_pool(**limits)
    facts, squares, compressed = await observed.process(attack)
    assert isinstance(facts, Finished)
    assert squares == Failed("squares", code)
    assert isinstance(compressed, Finished)
    assert compressed.renditions[0].path.read_bytes() == b"good"
    assert observed.ended.children == ([end] if end else []), "a fault costs the child too, a mere failure does not"
    assert all(isinstance(event, Finished) for event in await observed.process("none"))
    assert observed.pool.alive == 1


async def test_a_library_may_print_what_it_likes(open_pool: OpenPool) -> None:
    observed = open_pool()
    assert [type(event) for event in await observed.process("print-much")] == [Finished] * 3
    assert observed.ended.children == []


async def test_an_answer_said_twice_costs_the_next_step(open_pool: OpenPool) -> None:
    """The first one is what a child may say; nobody could tell that its decoder said it."""
    observed = open_pool()
    _, squares, *rest = await observed.process("say-twice")
    assert squares == Finished("squares", (), {})
    assert observed.ended.children == ["bad-answer"]
    assert rest == [Failed("", "bad-answer")]


BEFORE = [
    pytest.param("raise-before", {}, "too-many-pixels", [], id="is refused at the first look"),
    pytest.param("die-before", {}, "crashed", ["crashed", "crashed"], id="crashes at the first look, twice"),
    pytest.param("sleep-before", {"seconds": 1.0}, "too-slow", ["too-slow"], id="hangs at the first look"),
]


@pytest.mark.parametrize(("attack", "limits", "code", "ends"), BEFORE)
async def test_a_medium_without_steps_that(
    open_pool: OpenPool, attack: str, limits: dict[str, float], code: str, ends: list[str]
) -> None:
    observed = open_pool(**limits)
    assert await observed.process(attack) == [Failed("", code)]
    assert observed.ended.children == ends
    assert len(await observed.process("none")) == 3


async def test_only_steps_that_make_what_is_wanted_are_run(open_pool: OpenPool) -> None:
    observed = open_pool()
    events = await observed.process("none", wanted=frozenset({"large", "medium"}))
    assert [event.step for event in events] == ["squares"]
    assert await observed.process("none", wanted=frozenset({"hls"})) == []


async def test_a_long_medium_gets_more_time(open_pool: OpenPool) -> None:
    """The duration is known from before; half a second alone would not be enough for the second step."""
    observed = open_pool(seconds=0.0, seconds_per_second=1.0)
    async with aclosing(observed.pool.process(observed.source("none"), observed.folder(), duration=30.0)) as events:
        assert [type(event) async for event in events] == [Finished] * 3


async def test_what_is_made_is_handed_over_while_the_next_step_is_at_work(open_pool: OpenPool) -> None:
    observed = open_pool()
    async with aclosing(observed.pool.process(observed.source("sleep"), observed.folder())) as events:
        assert isinstance(await anext(events), Finished), "before the second step, which never ends"


async def test_an_original_that_is_gone_is_nobodys_fault(open_pool: OpenPool) -> None:
    observed = open_pool()
    observed.original.unlink()
    with pytest.raises(PoolUnavailable):
        await observed.process("none")


async def test_a_full_disk_is_nobodys_fault(open_pool: OpenPool) -> None:
    with pytest.raises(PoolUnavailable):
        await open_pool().process("fill-the-disk")


async def test_the_loop_goes_on_while_children_work(open_pool: OpenPool) -> None:
    """A child that spins stalls no timer of the parent."""
    observed = open_pool(seconds=1.0)
    async with turns_of_others() as turns:
        await observed.process("spin")
    assert turns.taken > 1000
