"""What every object store promises; a new store or wrapper joins with a fixture and a line in `SUBJECTS`."""

import asyncio
import tempfile
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage.disk import DiskCachedStore, Event
from storage.errors import ObjectNotFound, StoreUnavailable
from storage.local import LocalStore
from storage.memory import MemoryStore
from storage.middleware import LimitedStore, MeteredStore, RetryingStore
from storage.s3 import R2Store, S3Config, S3Store
from storage.s3.uploads import PART_SIZE
from storage.store import CHUNK_SIZE, ByteRange, ObjectStore

MakeFile = Callable[[bytes], Path]

PLAIN = "application/octet-stream"
LARGE = bytes(range(256)) * (PART_SIZE // 256) + b"the second part"


@dataclass(frozen=True)
class Subject:
    """A store under test."""

    store: ObjectStore
    leftovers: Callable[[], list[str]]
    """What an interrupted put has left behind where no reader looks."""


def wrapped(subject: Subject, wrap: Callable[[ObjectStore], ObjectStore]) -> Subject:
    return replace(subject, store=wrap(subject.store))


def ignore(backend: str, operation: str, outcome: str, seconds: float) -> None:
    """Observe nothing."""


class Unobserved:
    """Observes nothing of a disk cache."""

    def disk_cache(self, event: Event, count: int = 1) -> None: ...

    def disk_cache_holds(self, size: int) -> None: ...


def disk_cache(store: ObjectStore, folder: Path) -> DiskCachedStore:
    return DiskCachedStore(store, folder, max_bytes=16 * len(LARGE), observer=Unobserved())


@pytest.fixture
def local(tmp_path: Path) -> Subject:
    root = tmp_path / "objects"
    return Subject(LocalStore(root), lambda: [path.name for path in root.glob(".tmp/*")])


@pytest.fixture
def memory() -> Subject:
    return Subject(MemoryStore(), list)


@pytest.fixture
def s3(s3_config: S3Config, pending_uploads: Callable[[], list[str]]) -> Subject:
    return Subject(S3Store(s3_config), pending_uploads)


@pytest.fixture
def s3_virtual_hosted(s3_config: S3Config, aws_endpoint: str, pending_uploads: Callable[[], list[str]]) -> Subject:
    config = replace(s3_config, endpoint_url=aws_endpoint, addressing_style="virtual")
    return Subject(S3Store(config), pending_uploads)


@pytest.fixture
def s3_without_conditions(s3_config: S3Config, pending_uploads: Callable[[], list[str]]) -> Subject:
    return Subject(S3Store(replace(s3_config, conditional_writes=False)), pending_uploads)


@pytest.fixture
def r2(s3_config: S3Config, pending_uploads: Callable[[], list[str]]) -> Subject:
    return Subject(R2Store(replace(s3_config, region="auto")), pending_uploads)


@pytest.fixture
def retrying(memory: Subject) -> Subject:
    return wrapped(memory, RetryingStore)


@pytest.fixture
def limited(memory: Subject) -> Subject:
    return wrapped(memory, lambda store: LimitedStore(store, 2))


@pytest.fixture
def metered(memory: Subject) -> Subject:
    return wrapped(memory, lambda store: MeteredStore(store, ignore))


@pytest.fixture
def disk_cached(memory: Subject, tmp_path: Path) -> Subject:
    return wrapped(memory, lambda store: disk_cache(store, tmp_path / "copies"))


@pytest.fixture
def stacked(local: Subject) -> Subject:
    return wrapped(local, lambda store: MeteredStore(RetryingStore(LimitedStore(store, 2)), ignore))


SUBJECTS = [
    "local",
    "memory",
    "s3",
    "s3_virtual_hosted",
    "s3_without_conditions",
    "r2",
    "retrying",
    "limited",
    "metered",
    "disk_cached",
    "stacked",
]


@pytest.fixture(params=SUBJECTS)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    found: Subject = request.getfixturevalue(request.param)
    async with AsyncExitStack() as stack:
        if isinstance(found.store, AbstractAsyncContextManager):
            await stack.enter_async_context(found.store)
        yield found


@pytest.fixture
def store(subject: Subject) -> ObjectStore:
    return subject.store


async def read(store: ObjectStore, key: str, byte_range: ByteRange | None = None) -> bytes:
    async with store.open(key, byte_range) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted([meta.key async for meta in store.list(prefix)])


@pytest.mark.parametrize(
    "content",
    [b"", b"1", b"x" * (CHUNK_SIZE + 1), LARGE],
    ids=["empty", "one byte", "more than a chunk", "more than a part"],
)
async def test_what_is_put_is_what_is_read(store: ObjectStore, make_file: MakeFile, content: bytes) -> None:
    file = make_file(content)

    assert await store.put("media/m1/p1", file, content_type=PLAIN) is True

    assert await read(store, "media/m1/p1") == content
    assert file.read_bytes() == content, "the file itself is not touched"


async def test_head_tells_size_and_time_in_utc(store: ObjectStore, make_file: MakeFile) -> None:
    before = datetime.now(UTC)
    await store.put("media/m1/p1", make_file(b"0123456789"), content_type=PLAIN)

    meta = await store.head("media/m1/p1")

    assert (meta.key, meta.size) == ("media/m1/p1", 10)
    assert abs(meta.last_modified - before) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        pytest.param(0, 1, b"0", id="the first byte"),
        pytest.param(3, 7, b"3456", id="start inclusive, stop exclusive"),
        pytest.param(9, 10, b"9", id="the last byte"),
        pytest.param(0, 10, b"0123456789", id="all of it"),
        pytest.param(5, 1000, b"56789", id="a stop past the end is cut to it"),
    ],
)
async def test_a_range_is_exactly_its_bytes(
    store: ObjectStore, make_file: MakeFile, start: int, stop: int, expected: bytes
) -> None:
    await store.put("k", make_file(b"0123456789"), content_type=PLAIN)

    async with store.open("k", ByteRange(start, stop)) as reader:
        assert b"".join([chunk async for chunk in reader.chunks]) == expected
        assert reader.size == 10, "the size is that of the whole object"


async def test_a_range_may_cross_the_parts_of_an_upload(store: ObjectStore, make_file: MakeFile) -> None:
    await store.put("k", make_file(LARGE), content_type=PLAIN)

    found = await read(store, "k", ByteRange(PART_SIZE - 3, PART_SIZE + 3))

    assert found == b"\xfd\xfe\xff" + b"the"


async def test_a_range_past_the_end_means_the_store_is_not_to_be_trusted(
    store: ObjectStore, make_file: MakeFile
) -> None:
    await store.put("k", make_file(b"0123456789"), content_type=PLAIN)

    with pytest.raises(StoreUnavailable):
        await read(store, "k", ByteRange(10, 11))


async def test_chunks_are_small_and_never_empty(store: ObjectStore, make_file: MakeFile) -> None:
    await store.put("k", make_file(LARGE), content_type=PLAIN)

    async with store.open("k") as reader:
        sizes = [len(chunk) async for chunk in reader.chunks]

    assert min(sizes) > 0
    assert max(sizes) <= 4 * CHUNK_SIZE


@pytest.mark.parametrize("content", [b"first", LARGE], ids=["small", "in parts"])
async def test_the_first_object_of_a_key_stays(store: ObjectStore, make_file: MakeFile, content: bytes) -> None:
    await store.put("k", make_file(content), content_type=PLAIN)

    assert await store.put("k", make_file(b"second"), content_type=PLAIN) is False
    assert await store.put("k", make_file(LARGE[::-1]), content_type=PLAIN) is False

    assert await read(store, "k") == content


async def test_racing_puts_leave_one_whole_object(subject: Subject, make_file: MakeFile) -> None:
    contents = [bytes([number]) * (CHUNK_SIZE + number) for number in range(6)]

    puts = [subject.store.put("k", make_file(content), content_type=PLAIN) for content in contents]
    created = await asyncio.gather(*puts)

    assert any(created)
    assert await read(subject.store, "k") in contents
    assert subject.leftovers() == []


async def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await read(store, "media/missing")
    with pytest.raises(ObjectNotFound):
        await store.head("media/missing")


async def test_a_deleted_object_is_gone_and_its_key_is_free(store: ObjectStore, make_file: MakeFile) -> None:
    await store.put("media/m1/p1", make_file(b"first"), content_type=PLAIN)

    await store.delete("media/m1/p1")

    with pytest.raises(ObjectNotFound):
        await read(store, "media/m1/p1")
    assert await store.put("media/m1/p1", make_file(b"second"), content_type=PLAIN) is True


async def test_deleting_a_missing_key_succeeds(store: ObjectStore) -> None:
    await store.delete("media/missing")


async def test_a_listing_goes_over_all_pages_of_a_prefix(store: ObjectStore, make_file: MakeFile) -> None:
    wanted = ["media/1", "media/10/a", "media/10/b", "media/2", "media/3"]
    for key in [*wanted, "medium", "thumbnails/1"]:
        await store.put(key, make_file(key.encode()), content_type=PLAIN)

    assert {meta.key: meta.size async for meta in store.list("media/")} == {key: len(key) for key in wanted}
    assert await keys(store, "media/1") == ["media/1", "media/10/a", "media/10/b"]
    assert await keys(store, "media/10/") == ["media/10/a", "media/10/b"]
    assert len(await keys(store)) == 7
    assert await keys(store, "nothing") == []


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("media/wamid.HBgLMTU1NTAwMDIyMjIVAgARGBI5QTNDQTVCM0Q0==/1", id="equals signs"),
        pytest.param("media/a+b c/d", id="plus and space"),
        pytest.param("media/a%2Fb/c%20d/e%", id="percent signs"),
        pytest.param("media/me@example.com,'(1)!*~$&;:", id="reserved characters"),
        pytest.param("media/a?b=c#d", id="query and fragment"),
        pytest.param("media/zoë/日本/😀", id="unicode"),
        pytest.param("media/..a/.b/c..", id="dots that are no path"),
        pytest.param("/".join(["k" * 204] * 5), id="1,024 bytes"),
    ],
)
async def test_a_key_is_taken_as_it_is(store: ObjectStore, make_file: MakeFile, key: str) -> None:
    await store.put(key, make_file(b"content"), content_type=PLAIN)

    assert await read(store, key) == b"content"
    assert await read(store, key, ByteRange(1, 3)) == b"on"
    assert (await store.head(key)).size == 7
    assert await keys(store) == [key]
    await store.delete(key)
    assert await keys(store) == []


async def test_leaving_a_body_early_frees_what_it_held(store: ObjectStore, make_file: MakeFile) -> None:
    await store.put("k", make_file(LARGE), content_type=PLAIN)

    for _ in range(12):  # more often than a small limit would allow at once
        async with store.open("k") as reader:
            assert await anext(reader.chunks)

    assert await read(store, "k") == LARGE


async def test_an_interrupted_put_shows_nothing_or_the_whole_and_leaves_nothing_behind(
    subject: Subject, make_file: MakeFile
) -> None:
    file = make_file(LARGE)
    for turns in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]:
        key = f"media/{turns}"
        put = asyncio.ensure_future(subject.store.put(key, file, content_type=PLAIN))
        for _ in range(turns):
            await asyncio.sleep(0)  # one turn of the event loop, however far it gets
        put.cancel()
        await asyncio.wait([put], timeout=30)

        assert put.done()
        assert subject.leftovers() == []
        if await keys(subject.store, key):
            assert await read(subject.store, key) == LARGE
        await subject.store.put(key, file, content_type=PLAIN)
        assert await read(subject.store, key) == LARGE
        await subject.store.delete(key)


async def test_a_store_that_works_says_so(store: ObjectStore) -> None:
    await store.check()


async def test_the_url_of_a_record_names_the_key(store: ObjectStore) -> None:
    scheme = {"local": "file"}.get(store.backend, store.backend)

    assert store.url("media/m1/p1").startswith(f"{scheme}://")
    assert store.url("media/m1/p1").endswith("/media/m1/p1")


KEYS = st.sampled_from(["a", "b/c", "b/d/e", "media/m 1/ä", "media/m=1/+%2F"])


class _StoreAgainstDictionary(RuleBasedStateMachine):
    """Any sequence of calls leaves a store as it leaves a dictionary that never overwrites."""

    @abstractmethod
    def open_store(self, root: Path) -> ObjectStore:
        """Return an empty store; ``root`` is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name, "file")
        self.store = self.open_store(Path(self.folder.name, "root"))
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.runner.close()
        self.folder.cleanup()

    @rule(key=KEYS, content=st.binary(max_size=20))
    def put(self, key: str, content: bytes) -> None:
        self.file.write_bytes(content)
        created = self.runner.run(self.store.put(key, self.file, content_type=PLAIN))
        assert created is (key not in self.model)
        self.model.setdefault(key, content)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.runner.run(self.store.delete(key))
        self.model.pop(key, None)

    @rule(key=KEYS, start=st.integers(0, 20), length=st.integers(1, 20))
    def open(self, key: str, start: int, length: int) -> None:
        content = self.model.get(key)
        expected = b"" if content is None else content[start : start + length]
        try:
            assert self.runner.run(read(self.store, key, ByteRange(start, start + length))) == expected
        except ObjectNotFound:
            assert content is None
        except StoreUnavailable:
            assert content is not None
            assert start >= len(content)

    @rule(prefix=st.sampled_from(["", "b", "b/", "media/m ", "none"]))
    def list(self, prefix: str) -> None:
        expected = sorted(key for key in self.model if key.startswith(prefix))
        assert self.runner.run(keys(self.store, prefix)) == expected

    @invariant()
    def every_object_is_whole(self) -> None:
        for key, content in self.model.items():
            assert self.runner.run(read(self.store, key)) == content


class _MemoryAgainstDictionary(_StoreAgainstDictionary):
    def open_store(self, root: Path) -> ObjectStore:
        return MemoryStore()


class _DiskCachedAgainstDictionary(_StoreAgainstDictionary):
    def open_store(self, root: Path) -> ObjectStore:
        return disk_cache(MemoryStore(), root)


class _LocalAgainstDictionary(_StoreAgainstDictionary):
    def open_store(self, root: Path) -> ObjectStore:
        return LocalStore(root)


MACHINE = settings(max_examples=30, deadline=None)
TestMemoryAgainstDictionary = _MemoryAgainstDictionary.TestCase
TestDiskCachedAgainstDictionary = _DiskCachedAgainstDictionary.TestCase
TestLocalAgainstDictionary = _LocalAgainstDictionary.TestCase
TestMemoryAgainstDictionary.settings = MACHINE
TestDiskCachedAgainstDictionary.settings = MACHINE
TestLocalAgainstDictionary.settings = MACHINE
