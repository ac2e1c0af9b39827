"""Questions about what processing has made, on both databases."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from storage.database import Database
from storage.record import Processing, Status, StoredObject, Variant
from storage.records import Records
from storage.renditions import Renditions
from tests.messages import message, stored

MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def records(engine: Database) -> Records:
    return Records(engine)


@pytest.fixture
def renditions(engine: Database) -> Renditions:
    return Renditions(engine)


def variant(of: StoredObject, name: str = "webp", *, recipe: int = 1, key: str | None = None) -> Variant:
    return Variant(
        object_id=of.id,
        name=name,
        content_type="image/webp",
        size=10,
        sha256="ab" * 32,
        backend="local",
        key=key or f"{name}/{of.sha256}",
        url=f"file:///{name}",
        recipe=recipe,
        created_at=MOMENT,
    )


async def adopted(records: Records, message_id: str = "m1", candidate: StoredObject | None = None) -> StoredObject:
    await records.register(message(message_id))
    winner = await records.adopt(message_id, candidate or stored(), content_type="image/jpeg")
    assert winner is not None
    return winner


async def status(records: Records, message_id: str) -> tuple[Status, str | None]:
    record = await records.get(message_id)
    assert record is not None
    return record.status, record.error


async def end(renditions: Renditions, of: StoredObject, how: Processing = Processing.COMPLETED) -> list[Variant]:
    return await renditions.finish(of.id, how, recipe=1, keeping=(), error=None)


async def test_a_stored_message_is_processing_until_its_object_is_processed(
    records: Records, renditions: Renditions
) -> None:
    held = await adopted(records)
    assert await renditions.settle("m1") == held
    assert await status(records, "m1") == (Status.PROCESSING, None)
    await end(renditions, held)
    assert await status(records, "m1") == (Status.COMPLETED, None)


async def test_a_second_message_of_a_processed_object_is_complete_at_once(
    records: Records, renditions: Renditions
) -> None:
    held = await adopted(records)
    await end(renditions, held)
    await adopted(records, "m2")
    assert await renditions.settle("m2") is None
    assert await status(records, "m2") == (Status.COMPLETED, None)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Processing.COMPLETED, (Status.COMPLETED, None)),
        (Processing.FAILED, (Status.COMPLETED, None)),
        (Processing.QUARANTINED, (Status.FAILED, "quarantined")),
    ],
)
async def test_every_message_of_an_object_follows_its_processing(
    records: Records, renditions: Renditions, how: Processing, expected: tuple[Status, str | None]
) -> None:
    held = await adopted(records)
    await adopted(records, "m2")
    for message_id in ("m1", "m2"):
        await renditions.settle(message_id)
    await end(renditions, held, how)
    assert [await status(records, message_id) for message_id in ("m1", "m2")] == [expected, expected]
    await adopted(records, "m3")
    await renditions.settle("m3")
    assert await status(records, "m3") == expected


async def test_malware_that_is_found_later_withdraws_what_was_complete(
    records: Records, renditions: Renditions
) -> None:
    held = await adopted(records)
    await renditions.settle("m1")
    await end(renditions, held)
    await end(renditions, held, Processing.QUARANTINED)
    assert await status(records, "m1") == (Status.FAILED, "quarantined")
    record = await records.get("m1")
    assert record is not None
    assert record.stored is not None
    assert record.stored.processing_status == Processing.QUARANTINED


async def test_messages_that_settle_while_processing_ends_are_never_left_waiting(
    records: Records, renditions: Renditions
) -> None:
    ids = [f"m{number}" for number in range(8)]
    held = await adopted(records, ids[0])
    for message_id in ids[1:]:
        await adopted(records, message_id)
    await asyncio.gather(*(renditions.settle(message_id) for message_id in ids), end(renditions, held))
    assert {await status(records, message_id) for message_id in ids} == {(Status.COMPLETED, None)}


async def test_a_variant_is_known_by_its_name(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)
    first = variant(held)
    assert await renditions.keep(first) == (True, None)
    assert await renditions.of(held.id) == {"webp": first}


async def test_keeping_a_variant_twice_is_keeping_it_once(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)
    first = variant(held)
    await renditions.keep(first)
    assert await renditions.keep(first) == (True, first)
    assert await renditions.of(held.id) == {"webp": first}


async def test_a_newer_variant_takes_the_place_of_the_older_and_names_it(
    records: Records, renditions: Renditions
) -> None:
    held = await adopted(records)
    older, newer = variant(held, key="a"), variant(held, key="b", recipe=2)
    await renditions.keep(older)
    assert await renditions.keep(newer) == (True, older)
    assert await renditions.of(held.id) == {"webp": newer}


async def test_an_object_that_is_being_deleted_takes_no_variant(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)
    await records.delete("m1")
    assert await renditions.keep(variant(held)) == (False, None)
    assert await renditions.object(held.id) is None


async def test_the_variants_of_a_buried_object_are_forgotten(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)
    await renditions.keep(variant(held))
    await records.delete("m1")
    await records.bury(held.id)
    assert await renditions.of(held.id) == {}


async def test_a_live_object_is_not_buried_nor_are_its_variants(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)
    await renditions.keep(variant(held))
    await records.bury(held.id)
    assert set(await renditions.of(held.id)) == {"webp"}


async def test_what_an_older_recipe_made_and_the_new_one_does_not_is_dropped(
    records: Records, renditions: Renditions
) -> None:
    held = await adopted(records)
    dropped, kept, current = variant(held, "webp"), variant(held, "large"), variant(held, "small", recipe=2)
    for each in (dropped, kept, current):
        await renditions.keep(each)
    stale = await renditions.finish(held.id, Processing.COMPLETED, recipe=2, keeping={"large"}, error=None)
    assert stale == [dropped]
    assert set(await renditions.of(held.id)) == {"large", "small"}


async def test_what_is_learned_adds_up(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)
    await renditions.learn(held.id, {"width": 3, "exif": {"make": "Ö"}})
    await renditions.learn(held.id, {"width": 4, "blurhash": "L"})
    (processed,) = (await renditions.describe([held.id])).values()
    assert processed.facts == {"width": 4, "exif": {"make": "Ö"}, "blurhash": "L"}


async def test_many_objects_are_described_at_once(records: Records, renditions: Renditions) -> None:
    first = await adopted(records)
    second = await adopted(records, "m2", replace(stored(), id="2" * 32, sha256="cd" * 32, key="media/m2/x"))
    await renditions.keep(variant(first))
    described = await renditions.describe([first.id, second.id, "unknown"])
    assert {id_: set(processed.variants) for id_, processed in described.items()} == {
        first.id: {"webp"},
        second.id: set(),
    }


async def test_objects_to_process_again_are_those_of_an_older_recipe(records: Records, renditions: Renditions) -> None:
    held = await adopted(records)

    async def found(*, workspace_id: str | None = None, older_than: int | None = None, after: str = "") -> list[str]:
        page = await renditions.reprocessable(workspace_id=workspace_id, older_than=older_than, after=after)
        return [each.id for each in page]

    assert await found(older_than=1) == [held.id], "never processed"
    await end(renditions, held)
    assert await found(older_than=1) == []
    assert await found(older_than=2) == [held.id]
    assert await found(workspace_id=held.workspace_id) == [held.id]
    assert await found(workspace_id="another") == []
    assert await found(after=held.id) == []


@pytest.mark.parametrize("how", [Processing.QUARANTINED])
async def test_malware_is_never_processed_again(records: Records, renditions: Renditions, how: Processing) -> None:
    await end(renditions, await adopted(records), how)
    assert await renditions.reprocessable(workspace_id=None, older_than=None) == []
