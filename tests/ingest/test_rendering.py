"""What becomes of an object: which variants are kept, where they lie, and what a failure leaves behind."""

import hashlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.processing.children import PoolUnavailable
from ingest.processing.pool import Event, Failed, Finished, Rendition
from ingest.processing.steps import RECIPE, Source
from ingest.rendering import ProcessingUnavailable, Rendering
from ingest.scanner import ClamAddress, Scanner, ScannerUnavailable
from storage.database import Database
from storage.errors import StoreFull, StoreUnavailable
from storage.memory import MemoryStore
from storage.record import Processing, Status, StoredObject
from storage.records import Records
from storage.renditions import Renditions
from tests.ingest.test_scanner import EICAR, clamd
from tests.messages import message, stored

ORIGINAL = b"\xff\xd8\xff\xe0" + b"original" * 20
Answer = Callable[[Path], Event]


def made(step: str, *files: tuple[str, bytes, str], **facts: object) -> Answer:
    """Return a step that makes files of a name, a content and a type."""

    def run(folder: Path) -> Finished:
        renditions = []
        for name, content, content_type in files:
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            renditions.append(Rendition(name, path, content_type, len(content), hashlib.sha256(content).hexdigest()))
        return Finished(step, tuple(renditions), facts)

    return run


def failed(step: str, code: str) -> Answer:
    return lambda _: Failed(step, code)


@dataclass
class ScriptedPool:
    """Answers as it is told; remembers what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[bytes, str, frozenset[str] | None]] = field(default_factory=list)
    error: Exception | None = None

    async def process(
        self, source: Source, folder: Path, *, wanted: frozenset[str] | None = None
    ) -> AsyncGenerator[Event, None]:
        self.asked.append((source.path.read_bytes(), source.content_type, wanted))
        for answer in self.answers:
            yield answer(folder)
        if self.error is not None:
            raise self.error


@dataclass
class Counts:
    made: list[tuple[str, int, int]] = field(default_factory=list)
    malware: int = 0

    def variant_made(self, name: str, original: int, size: int) -> None:
        self.made.append((name, original, size))

    def quarantined(self) -> None:
        self.malware += 1


@dataclass
class Studio:
    """A rendering, and all that it works on."""

    records: Records
    renditions: Renditions
    store: MemoryStore
    pool: ScriptedPool
    counts: Counts
    scratch: Path
    rendering: Rendering
    purged: list[str]
    """The ids of objects that the CDN was to forget."""

    async def hold(self, content: bytes = ORIGINAL, content_type: str = "image/jpeg") -> StoredObject:
        """Store an object that message ``m1`` refers to."""
        file = self.scratch.parent / "upload"
        file.write_bytes(content)
        candidate = replace(
            stored(backend="memory"),
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            content_type=content_type,
        )
        candidate = replace(candidate, url=self.store.url(candidate.key))
        await self.store.put(candidate.key, file, content_type=content_type)
        await self.records.register(message())
        held = await self.records.adopt("m1", candidate, content_type=content_type)
        assert held is not None
        await self.renditions.settle("m1")
        return held

    async def status(self) -> tuple[Status, str | None]:
        record = await self.records.get("m1")
        assert record is not None
        return record.status, record.error

    async def keys(self) -> set[str]:
        return {meta.key async for meta in self.store.list()}

    def leftovers(self) -> list[Path]:
        return list(self.scratch.rglob("*"))


@pytest.fixture
def studio(engine: Database, tmp_path: Path) -> Studio:
    return _studio(engine, tmp_path, None)


def _studio(engine: Database, tmp_path: Path, scanner: Scanner | None) -> Studio:
    renditions, store, pool, counts = Renditions(engine), MemoryStore(), ScriptedPool(), Counts()
    scratch = tmp_path / "scratch"
    purged: list[str] = []

    async def purge(object_id: str) -> None:
        purged.append(object_id)

    rendering = Rendering(
        renditions=renditions, store=store, pool=pool, scratch=scratch, scanner=scanner, observer=counts, purge=purge
    )
    return Studio(Records(engine), renditions, store, pool, counts, scratch, rendering, purged)


async def test_a_variant_is_stored_under_a_key_of_its_object_and_month(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("webp", ("webp", b"small", "image/webp"))]
    assert await studio.rendering.process(held.id) == "processed"
    (variant,) = (await studio.renditions.of(held.id)).values()
    digest = hashlib.sha256(b"small").hexdigest()
    assert variant.key == f"webp/w1/2026/11/{held.sha256}-webp-{digest[:16]}.webp"
    assert (variant.size, variant.sha256, variant.content_type) == (5, digest, "image/webp")
    assert variant.recipe == RECIPE
    async with studio.store.open(variant.key) as reader:
        assert b"".join([chunk async for chunk in reader.chunks]) == b"small"
    assert await studio.status() == (Status.COMPLETED, None)
    assert studio.counts.made == [("webp", len(ORIGINAL), 5)]
    assert studio.leftovers() == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("compressed", "compressed"),
        ("webp", "webp"),
        ("small", "thumbnails"),
        ("thumbnail", "thumbnails"),
        ("large", "thumbnails"),
        ("preview", "previews"),
        ("aac", "audio"),
        ("waveform", "waveforms"),
        ("hls", "hls"),
        ("hls/360p.mp4", "hls"),
    ],
)
async def test_each_kind_of_variant_has_its_folder(studio: Studio, name: str, folder: str) -> None:
    held = await studio.hold(content_type="video/mp4")
    path = "hls/master.m3u8" if name == "hls" else name
    answer = made("step", (path, b"x", "video/mp4"))

    def renamed(work: Path) -> Finished:
        event = answer(work)
        assert isinstance(event, Finished)
        return replace(event, renditions=(replace(event.renditions[0], name=name),))

    studio.pool.answers = [renamed]
    await studio.rendering.process(held.id)
    (variant,) = (await studio.renditions.of(held.id)).values()
    assert variant.name == name
    assert variant.key.startswith(f"{folder}/w1/2026/11/{held.sha256}-")


async def test_the_processor_sees_the_bytes_that_were_stored_and_their_type(studio: Studio) -> None:
    held = await studio.hold()
    await studio.rendering.process(held.id)
    assert studio.pool.asked == [(ORIGINAL, "image/jpeg", None)]


@pytest.mark.parametrize(
    ("content_type", "name", "kept"),
    [
        pytest.param("image/jpeg", "compressed", False, id="a picture that did not become smaller"),
        pytest.param("image/png", "webp", False, id="nor as WebP"),
        pytest.param("image/jpeg", "large", False, id="nor as a square"),
        pytest.param("video/mp4", "compressed", False, id="a film that did not become smaller"),
        pytest.param("audio/mpeg", "compressed", False, id="a recording that did not become smaller"),
        pytest.param("audio/amr", "compressed", True, id="no browser plays AMR"),
        pytest.param("video/3gpp", "compressed", True, id="nor the films of old phones"),
        pytest.param("audio/ogg", "aac", True, id="an iPhone plays nothing else"),
        pytest.param("application/pdf", "large", True, id="a page is another kind of medium"),
        pytest.param("video/mp4", "small", True, id="so is a frame"),
    ],
)
async def test_a_rendition_larger_than_its_original_is_kept_only_where_it_does_what_that_cannot(
    studio: Studio, content_type: str, name: str, *, kept: bool
) -> None:
    held = await studio.hold(content_type=content_type)
    studio.pool.answers = [made("step", (name, bytes(len(ORIGINAL) + 1), "image/jpeg"))]
    await studio.rendering.process(held.id)
    assert (name in await studio.renditions.of(held.id)) is kept


async def test_one_of_the_same_size_is_kept(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("webp", ("webp", bytes(len(ORIGINAL)), "image/webp"))]
    await studio.rendering.process(held.id)
    assert "webp" in await studio.renditions.of(held.id)


@pytest.mark.parametrize(
    ("content_type", "names"),
    [
        ("image/gif", {"compressed"}),
        ("image/webp", {"compressed", "webp"}),
        ("audio/ogg", {"compressed"}),
        ("image/jpeg", set()),
    ],
)
async def test_what_stays_as_it_is_is_the_original_under_another_name(
    studio: Studio, content_type: str, names: set[str]
) -> None:
    held = await studio.hold(content_type=content_type)
    await studio.rendering.process(held.id)
    found = await studio.renditions.of(held.id)
    assert set(found) == names
    assert {variant.key for variant in found.values()} <= {held.key}
    assert await studio.keys() == {held.key}


async def test_a_step_that_fails_costs_its_own_variants_alone(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [
        made("facts", width=4, height=3),
        failed("squares", "crashed"),
        made("webp", ("webp", b"small", "image/webp")),
    ]
    await studio.rendering.process(held.id)
    assert set(await studio.renditions.of(held.id)) == {"webp"}
    (processed,) = (await studio.renditions.describe([held.id])).values()
    assert processed.facts == {"width": 4, "height": 3}
    assert await studio.status() == (Status.COMPLETED, None)


async def test_what_was_made_before_a_failure_stays_and_the_next_try_completes_it(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("squares", ("small", b"s", "image/jpeg"))]
    studio.pool.error = PoolUnavailable("no room")
    with pytest.raises(ProcessingUnavailable):
        await studio.rendering.process(held.id)
    assert set(await studio.renditions.of(held.id)) == {"small"}
    assert await studio.status() == (Status.PROCESSING, None)
    assert studio.leftovers() == []
    studio.pool.error = None
    assert await studio.rendering.process(held.id) == "processed"
    assert await studio.status() == (Status.COMPLETED, None)


async def test_giving_up_completes_the_messages_with_what_there_is(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("squares", ("small", b"s", "image/jpeg"))]
    studio.pool.error = PoolUnavailable("no room")
    with pytest.raises(ProcessingUnavailable):
        await studio.rendering.process(held.id)
    await studio.rendering.give_up(held.id, "processing-unavailable")
    assert await studio.status() == (Status.COMPLETED, None)
    assert set(await studio.renditions.of(held.id)) == {"small"}
    assert (await _object(studio, held)).processing_status == Processing.FAILED


async def test_processing_twice_leaves_what_processing_once_does(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("webp", ("webp", b"small", "image/webp"))]
    await studio.rendering.process(held.id)
    once = await studio.keys()
    await studio.rendering.process(held.id)
    assert await studio.keys() == once


async def test_a_variant_made_anew_takes_the_place_of_the_old_one_and_its_bytes(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("webp", ("webp", b"old", "image/webp"))]
    await studio.rendering.process(held.id)
    studio.pool.answers = [made("webp", ("webp", b"new", "image/webp"))]
    await studio.rendering.process(held.id)
    (variant,) = (await studio.renditions.of(held.id)).values()
    assert await studio.keys() == {held.key, variant.key}
    assert variant.sha256 == hashlib.sha256(b"new").hexdigest()


async def test_the_cdn_forgets_a_medium_of_which_a_variant_has_changed_or_gone(studio: Studio) -> None:
    held = await studio.hold()
    webp, small = ("webp", b"webp", "image/webp"), ("small", b"small", "image/jpeg")
    for files in ([webp], [webp], [webp, small]):
        studio.pool.answers = [made("step", *files)]
        await studio.rendering.process(held.id)
    assert studio.purged == [], "nothing that it can have is different now"
    studio.pool.answers = [made("step", ("webp", b"new", "image/webp"), small)]
    await studio.rendering.process(held.id)
    assert studio.purged == [held.id]


async def test_an_object_deleted_meanwhile_leaves_no_bytes_behind(studio: Studio) -> None:
    held = await studio.hold()
    await studio.records.delete("m1")
    assert await studio.rendering.process(held.id) == "deleted"
    assert await studio.rendering.make(held, "webp") is False
    studio.pool.answers = [made("webp", ("webp", b"small", "image/webp"))]
    assert await studio.rendering.make(held, "webp") is False
    assert await studio.keys() == {held.key}


async def test_one_variant_is_made_on_request(studio: Studio) -> None:
    held = await studio.hold()
    studio.pool.answers = [made("squares", ("small", b"s", "image/jpeg"), ("large", b"l", "image/jpeg"))]
    assert await studio.rendering.make(held, "large")
    assert studio.pool.asked[0][2] == frozenset({"large"})
    assert set(await studio.renditions.of(held.id)) == {"small", "large"}
    assert (await _object(studio, held)).processing_status == Processing.PENDING


async def test_damaged_bytes_are_never_processed(studio: Studio) -> None:
    held = await studio.hold()
    await studio.store.delete(held.key)
    file = studio.scratch.parent / "damaged"
    file.write_bytes(ORIGINAL[:-1] + b"!")
    await studio.store.put(held.key, file, content_type="image/jpeg")
    with pytest.raises(StoreUnavailable, match="damaged"):
        await studio.rendering.process(held.id)
    assert studio.pool.asked == []
    assert studio.leftovers() == []


async def test_no_room_for_the_copy_is_a_full_store(studio: Studio) -> None:
    held = await studio.hold()
    studio.scratch.write_bytes(b"a file where the folder should be")
    with pytest.raises(StoreFull):
        await studio.rendering.process(held.id)


async def test_documents_of_which_nothing_can_be_made_are_not_even_read(studio: Studio) -> None:
    held = await studio.hold(b"PK\x03\x04", "application/zip")
    await studio.store.delete(held.key)
    assert await studio.rendering.process(held.id) == "processed"
    assert studio.pool.asked == []
    assert await studio.status() == (Status.COMPLETED, None)


async def test_what_a_killed_process_left_in_work_is_swept_up_in_time(studio: Studio) -> None:
    left = studio.scratch / "render-abc" / "made"
    left.mkdir(parents=True)
    assert await studio.rendering.sweep(timedelta(hours=1)) == 0
    assert await studio.rendering.sweep(timedelta(seconds=-1)) == 1
    assert studio.leftovers() == []


async def test_malware_is_quarantined_before_anything_decodes_it(engine: Database, tmp_path: Path) -> None:
    socket = tmp_path / "clamd.sock"
    studio = _studio(engine, tmp_path, Scanner(ClamAddress.parse(f"unix:{socket}"), timeout=5))
    held = await studio.hold(EICAR, "application/octet-stream")
    async with clamd(socket):
        assert await studio.rendering.process(held.id) == "quarantined"
        assert await studio.rendering.process(held.id) == "kept"
    assert studio.pool.asked == []
    assert studio.counts.malware == 1
    assert studio.purged == [held.id] * 2, "the second time for a worker that was killed in between"
    assert await studio.status() == (Status.FAILED, "quarantined")
    assert (await _object(studio, held)).processing_status == Processing.QUARANTINED
    assert await studio.keys() == {held.key}, "kept, for who has to look at it"


async def test_malware_found_later_takes_its_variants_with_it(engine: Database, tmp_path: Path) -> None:
    socket = tmp_path / "clamd.sock"
    studio = _studio(engine, tmp_path, Scanner(ClamAddress.parse(f"unix:{socket}"), timeout=5))
    held = await studio.hold()
    studio.pool.answers = [made("webp", ("webp", b"small", "image/webp"))]
    async with clamd(socket):
        await studio.rendering.process(held.id)
    async with clamd(socket, lambda _: b"stream: Late.Finding FOUND\0"):
        assert await studio.rendering.process(held.id) == "quarantined"
    assert await studio.renditions.of(held.id) == {}
    assert await studio.keys() == {held.key}


async def test_without_a_verdict_nothing_is_decoded_and_nothing_is_lost(engine: Database, tmp_path: Path) -> None:
    studio = _studio(engine, tmp_path, Scanner(ClamAddress.parse(f"unix:{tmp_path}/nobody"), timeout=5))
    held = await studio.hold()
    with pytest.raises(ScannerUnavailable):
        await studio.rendering.process(held.id)
    assert studio.pool.asked == []
    assert await studio.status() == (Status.PROCESSING, None)
    assert await studio.keys() == {held.key}


async def _object(studio: Studio, held: StoredObject) -> StoredObject:
    found = await studio.renditions.object(held.id)
    assert found is not None
    return found
