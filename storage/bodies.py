"""The bodies that a process keeps in memory: bounded by their bytes, the popular safe from what is asked for once."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

NEW_SHARE: Final = 0.25  # of the memory, for newcomers; a tenth is too short for a chat whose members look later
MAX_HITS: Final = 3  # more are not counted: how popular a body was long ago says little
SECOND_CHANCES: Final = 64  # bodies that one eviction may spare: it runs on the event loop
MIN_REMEMBERED: Final = 256  # keys of bodies that are not held, where fewer bodies are

QueueName: TypeAlias = Literal["new", "popular"]


class _Body:
    """What is held, and how often it was read since it came or was spared last."""

    __slots__ = ("content", "hits", "key")

    def __init__(self, key: tuple[str, str], content: bytes) -> None:
        self.key = key
        self.content = content
        self.hits = 0


class _Queue:
    """Bodies in the order in which they came, and their bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._bodies: deque[_Body] = deque()

    def append(self, body: _Body) -> None:
        self._bodies.append(body)
        self.size += len(body.content)

    def pop_oldest(self) -> _Body:
        body = self._bodies.popleft()
        self.size -= len(body.content)
        return body

    def __len__(self) -> int:
        return len(self._bodies)


def _unobserved(_queue: QueueName) -> None:
    """Tell nobody."""


class BodyCache:
    """Whole bodies by workspace and SHA-256, kept by S3-FIFO (Yang et al., SOSP 2023, section 4).

    A newcomer passes through a short queue. What is read there goes on into the long one, where every read saves it
    from one eviction; the rest goes, and only its key is remembered for a while: what comes back by then is put into
    the long queue at once. So what is asked for once never meets the popular, and a read costs a look into a dictionary
    and a count: there is no list to be kept in order.
    """

    def __init__(self, max_bytes: int, *, max_item: int, evicted: Callable[[QueueName], None] = _unobserved) -> None:
        """Take both limits in bytes, and whom to tell from which queue a body had to go."""
        self.max_item = min(max_item, max_bytes)
        self._max_bytes = max_bytes
        self._evicted = evicted
        self._bodies: dict[tuple[str, str], _Body] = {}
        self._new, self._popular = _Queue(), _Queue()
        self._asked: OrderedDict[int, None] = OrderedDict()  # hashes of keys: two that share one do no harm

    def __len__(self) -> int:
        """Return the number of bodies."""
        return len(self._bodies)

    @property
    def size(self) -> int:
        """The bytes held now."""
        return self._new.size + self._popular.size

    def holds(self, workspace_id: str, sha256: str) -> bool:
        """Return whether a body is held, without counting it as read."""
        return (workspace_id, sha256) in self._bodies

    def get(self, workspace_id: str, sha256: str) -> bytes | None:
        """Return a body, and count it as read."""
        body = self._bodies.get((workspace_id, sha256))
        if body is None:
            return None
        if body.hits < MAX_HITS:
            body.hits += 1
        return body.content

    def wanted(self, workspace_id: str, sha256: str) -> bool:
        """Return whether a body that is not held has been asked for lately, and note that somebody asks now."""
        key = hash((workspace_id, sha256))
        if key in self._asked:
            return True
        self._remember(key)
        return False

    def put(self, workspace_id: str, sha256: str, body: bytes) -> None:
        """Keep a body whose hash has been verified, if it is small enough."""
        key = (workspace_id, sha256)
        if len(body) > self.max_item or key in self._bodies:  # what has the same hash is the same
            return
        came_back = self._asked.pop(hash(key), False) is None
        while self.size + len(body) > self._max_bytes:
            self._make_room()
        self._bodies[key] = _Body(key, body)
        (self._popular if came_back else self._new).append(self._bodies[key])

    def _make_room(self) -> None:
        """Take a step: either a body goes, or a newcomer that was read moves on."""
        if self._popular and self._new.size <= NEW_SHARE * self._max_bytes:
            self._evict(self._least_popular(), "popular")
            return
        newcomer = self._new.pop_oldest()
        if newcomer.hits:
            self._popular.append(newcomer)
            return
        self._remember(hash(newcomer.key))
        self._evict(newcomer, "new")

    def _least_popular(self) -> _Body:
        """Take the oldest body that was not read since it was spared last, or after too many the next one."""
        body = self._popular.pop_oldest()
        for _ in range(SECOND_CHANCES):
            if not body.hits:
                break
            body.hits -= 1
            self._popular.append(body)
            body = self._popular.pop_oldest()
        return body

    def _evict(self, body: _Body, queue: QueueName) -> None:
        del self._bodies[body.key]
        self._evicted(queue)

    def _remember(self, key: int) -> None:
        while len(self._asked) >= max(MIN_REMEMBERED, len(self._bodies)):
            self._asked.popitem(last=False)
        self._asked[key] = None
