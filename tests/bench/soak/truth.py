"""What each message is at what time, and therefore what an answer about it may be."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from time import monotonic

STALE = 2.0  # seconds for which a process may believe a record after another one has changed it: docs/operators.md
SERVED = frozenset({200, 206, 304, 412, 416})
EXCUSABLE = frozenset({502, 503, 504})  # while the provider has trouble and the medium is not stored
MAX_FAULTS = 50  # that are described; the others are counted


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """A medium that the provider has."""

    media_id: str
    mime_type: str
    body: bytes = field(repr=False)
    sha256: str

    @property
    def etag(self) -> str:
        """What the gateway tells it by."""
        return f'"{self.sha256}"'


@dataclass(slots=True, eq=False)
class State:
    """What a message is from when it was asked to be so, until no process may believe it any more."""

    content: Content | None
    """None where it is deleted."""
    since: float
    until: float = inf
    settled: bool = False
    """Whether the content is known to be stored: from then on no trouble is an excuse."""


class Message:
    """A message, and its latest states."""

    def __init__(self, message_id: str) -> None:
        self.id = message_id
        self.states: deque[State] = deque(maxlen=32)
        self._changing = asyncio.Lock()

    @property
    def now(self) -> State:
        """What it was last asked to be."""
        return self.states[-1]

    @property
    def is_busy(self) -> bool:
        """Whether somebody is changing it."""
        return self._changing.locked()

    @asynccontextmanager
    async def becoming(self, content: Content | None) -> AsyncIterator[State]:
        """Change it within, by a request that is answered when this is left."""
        async with self._changing:
            state, before = State(content, monotonic()), self.states[-1] if self.states else None
            self.states.append(state)
            yield state
            if before is not None:
                before.until = monotonic() + STALE

    def between(self, began: float, ended: float) -> list[State]:
        """Return what it may have been to a request of that time."""
        return [state for state in self.states if state.since <= ended and state.until >= began]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client got."""

    began: float
    ended: float
    """When the header was there."""
    status: int
    """0 where there was none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    complete: bool = True


Check = Callable[[Content, Answer], str | None]
"""Says what is wrong with an answer about a content; None: nothing."""


class Ledger:
    """All answers, and what was wrong with them."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.faults: list[str] = []
        self.wrong = 0
        self.stalest = 0.0
        """Seconds after a change was answered in which what was before it has been served."""

    def fault(self, text: str) -> None:
        """Note that something was wrong."""
        self.wrong += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)

    def expect(self, what: str, answer: Answer, *statuses: int) -> bool:
        """Hold an answer that is not about a medium against the statuses that are right."""
        self.answers[f"{what} {answer.status}"] += 1
        if answer.status in statuses and answer.complete:
            return True
        self.fault(f"{what}: {answer.status} instead of {' or '.join(map(str, statuses))}: {answer.body[:200]!r}")
        return False

    def judge(self, what: str, message: Message, answer: Answer, check: Check, *, troubled: bool) -> None:
        """Hold an answer against what its message may have been; ``troubled`` where the provider was."""
        self.answers[f"{what} {answer.status if answer.complete else 'broken'}"] += 1
        states = message.between(answer.began, answer.ended)
        excuse = troubled and any(state.content is not None and not state.settled for state in states)
        if answer.status in EXCUSABLE or not answer.complete or not answer.status:
            if excuse:
                self.excused[f"{what} {answer.status if answer.complete else 'broken'}"] += 1
            else:
                self._fault(what, message, answer, "without an excuse")
        elif answer.status in SERVED:
            wrong = {state: check(state.content, answer) for state in states if state.content is not None}
            if excuse and wrong and None not in wrong.values() and _is_unverified(answer):
                self.excused[f"{what} of unverified bytes"] += 1
            else:
                self._judge_served(what, message, answer, wrong)
        elif answer.status != 410 or all(state.content is not None for state in states):
            self._fault(what, message, answer, "though it is there")

    def _judge_served(self, what: str, message: Message, answer: Answer, wrong: Mapping[State, str | None]) -> None:
        if not wrong:
            self._fault(what, message, answer, "though it is deleted")
        elif None not in wrong.values():
            self._fault(what, message, answer, " | ".join(str(each) for each in wrong.values()))
        else:
            late = min(answer.began - (state.until - STALE) for state, found in wrong.items() if found is None)
            self.stalest = max(self.stalest, late)

    def _fault(self, what: str, message: Message, answer: Answer, text: str) -> None:
        since = answer.began - message.now.since
        names = (
            "etag",
            "content-length",
            "x-media-source",
            "x-media-variant",
            "cache-control",
            "x-request-id",
            "error",
        )
        fields = {name: answer.headers[name] for name in names if name in answer.headers}
        facts = f"{answer.status}, {len(answer.body)} bytes, {fields}, {_age(message, answer)}"
        self.fault(f"{what} of {message.id}, {since:.2f} s after its last change: {facts}: {text} {answer.body[:99]!r}")


def _is_unverified(answer: Answer) -> bool:
    """Whether it is a part of what the provider has not delivered to its end: nobody may keep that."""
    return answer.status == 206 and answer.headers.get("cache-control") == "no-store"


def _age(message: Message, answer: Answer) -> str:
    """Say when the message was last what the answer is of."""
    known = [state for state in message.states if state.content and state.content.etag == answer.headers.get("etag")]
    return (
        f"which it was until {answer.began - known[-1].until + STALE:.2f} s before" if known else "which it never was"
    )
