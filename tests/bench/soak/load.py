"""The load: clients that read, vanish and dawdle, and a host application that changes what they read."""

import asyncio
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from ingest.simulator import encode, new_wamid, sign
from tests.bench.soak import checks
from tests.bench.soak.gateway import HOST_KEY, ORIGIN_SECRET, Gateway, token
from tests.bench.soak.provider import KB, Provider
from tests.bench.soak.truth import Answer, Check, Content, Ledger, Message
from tests.running import APP_SECRET, eventually

SQUARES = ("small", "thumbnail", "medium", "large")
TRIES = 60  # a second apart
SOON = 60.0  # seconds for what a worker does with a healthy provider


@dataclass(frozen=True, slots=True)
class Load:
    """All that is done to the gateway."""

    gateway: Gateway
    provider: Provider
    ledger: Ledger
    hot: Sequence[Message]
    """Popular, and never changed."""
    photographs: Sequence[Message]
    films: Sequence[Message]
    large: Sequence[Message]
    changing: Sequence[Message]
    cold: Mapping[Message, Content]
    """Deleted and registered anew, again and again, each with a content of its own."""

    async def prepare(self) -> None:
        """Register everything that is there from the beginning."""
        shelf = self.provider.shelf
        pairs = [
            *_dealt(self.hot, shelf.small),
            *_dealt(self.photographs, shelf.photographs),
            *_dealt(self.films, shelf.films),
            *_dealt(self.large, shelf.large),
            *_dealt(self.changing, shelf.small[10:]),
            *self.cold.items(),
        ]
        for message, content in pairs:
            await self.register(message, content)
        for message, _ in pairs:
            await eventually(lambda message=message: self.settle(message, completed=True), 300)  # type: ignore[misc] # the loop's variable

    # What the host application does

    async def register(self, message: Message, content: Content, *, ingest: bool = True) -> None:
        """Let a message be about a content."""
        order = {"provider_media_id": content.media_id, "mime_type": content.mime_type, "ingest": ingest}
        async with message.becoming(content):
            ask = partial(self.gateway.ask, "PUT", self.gateway.plain(message.id), HOST_KEY, json=order)
            await self._written("register", ask, 200, 201)

    async def delete(self, message: Message) -> None:
        """Delete a message."""
        async with message.becoming(None):
            ask = partial(self.gateway.ask, "DELETE", self.gateway.plain(message.id), HOST_KEY)
            await self._written("delete", ask, 204)

    async def retry(self, message: Message) -> None:
        """Have a message's medium ingested again."""
        ask = partial(self.gateway.ask, "POST", self.gateway.plain(message.id, "/retry"), HOST_KEY)
        await self._written("retry", ask, 202)

    async def settle(self, message: Message, *, completed: bool = False) -> bool:
        """Look whether a message is stored, and hold the gateway to it from then on."""
        state = message.now
        answer = await self.gateway.ask("GET", self.gateway.plain(message.id, "/info"), HOST_KEY)
        if state.content is None or message.is_busy or message.now is not state:
            return False
        if not self.ledger.expect("info", answer, 200):
            return False
        stored = f'"sha256": "{state.content.sha256}"'.encode() in answer.body
        words = (b'"completed"',) if completed else (b'"completed"', b'"processing"')
        state.settled = state.settled or (stored and any(b'"status": ' + word in answer.body for word in words))
        return state.settled

    # What clients do

    async def read(self, message: Message) -> None:
        """Ask for a medium in one of the ways that there are."""
        content = message.now.content or self.provider.shelf.small[0]
        headers, check = _way(content)
        await self._judged("read", message, "GET", headers, check)

    async def head(self, message: Message) -> None:
        """Ask for the fields alone."""
        await self._judged("head", message, "HEAD", {}, checks.headed)

    async def variant(self, message: Message) -> None:
        """Ask for a rendition of a photograph."""
        name = random.choice((*SQUARES, "compressed", "webp", "auto"))
        answer = await self.gateway.ask("GET", self.gateway.signed(message.id, name))
        self._judge("variant", message, answer, checks.rendition)

    async def stream(self, message: Message) -> None:
        """Play the beginning of a stream."""
        master = urlsplit(self.gateway.signed(message.id, "hls"))
        folder, lines = master.path.rpartition("/")[0], [master.path.rpartition("/")[2] + "?" + master.query]
        for _ in range(2):  # the master playlist, then that of one quality
            answer = await self.gateway.ask("GET", f"{folder}/{random.choice(lines)}")
            if not self.ledger.expect("playlist", answer, 200):
                return
            lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
        asked = {"Range": "bytes=0-9999"}
        answer = await self.gateway.ask("GET", f"{folder}/{random.choice(lines)}", asked)
        if self.ledger.expect("segment", answer, 206) and len(answer.body) != 10_000:
            self.ledger.fault(f"a segment's first bytes are {len(answer.body)}")

    async def vanish(self, message: Message) -> None:
        """Leave after the first bytes."""
        reader, writer = await self._opened(message)
        try:
            await asyncio.wait_for(reader.read(random.choice((1, 500, 20 * KB))), SOON)
        except TimeoutError:
            self.ledger.fault(f"no byte of {message.id} in {SOON:.0f} s")
        finally:
            writer.transport.abort()
        self.ledger.answers["vanish"] += 1

    async def dawdle(self, message: Message) -> None:
        """Read slowly, then not at all, and leave in the end."""
        reader, writer = await self._opened(message)
        try:
            for _ in range(random.randint(1, 40)):
                await asyncio.wait_for(reader.read(16 * KB), SOON)
                await sleep(0.25)
            await sleep(random.uniform(0, 90))  # longer than the gateway waits
        except (TimeoutError, ConnectionError):
            self.ledger.answers["dawdle broken"] += 1
        finally:
            writer.transport.abort()
        self.ledger.answers["dawdle"] += 1

    async def refused(self, message: Message) -> None:
        """Ask without the right to."""
        ask, plain = self.gateway.ask, self.gateway.plain(message.id)
        signed = self.gateway.signed(message.id)
        bearer = {"Authorization": f"Bearer {token('somebody-else')}"}
        self.ledger.expect("no credential", await ask("GET", plain), 401)
        self.ledger.expect("wrong signature", await ask("GET", signed.replace("sig=", "sig=x")), 403)
        self.ledger.expect("other variant", await ask("GET", f"{signed}&variant=small"), 403)
        self.ledger.expect("other workspace", await ask("GET", plain, bearer), 404)
        self.ledger.expect("unknown", await ask("GET", self.gateway.plain("nobody"), HOST_KEY), 404)

    # What happens

    async def change(self, message: Message) -> None:
        """Give a message another content, or none, while clients look on: in time, none may see the old one."""
        if message.is_busy:
            return
        for _ in range(3):  # so that every process knows it as it is
            await self.read(message)
        others = [each for each in self.provider.shelf.small if each is not message.now.content]
        if message.now.content is not None and random.random() < 0.4:
            await self.delete(message)
        else:
            if (
                random.random() < 0.5
            ):  # a first medium, which may still be on its way when the second one takes its place
                await self.register(message, random.choice(others))
            await self.register(message, random.choice(others), ingest=random.random() < 0.8)
        state = message.now
        for pause in (0, 0, 0.3, 0.7, 1.0, 0.2, 0.5, 2.0):
            await sleep(pause)
            await self.read(message)
        if state.content is not None and state is message.now and not message.is_busy:
            await self.settle(message)

    async def crowd(self, message: Message) -> None:
        """Let a message come back, not stored any more, to several clients at once, of whom some leave."""
        if message.is_busy:
            return
        if message.now.content is not None:
            await self.delete(message)
        await self.register(message, self.cold[message], ingest=random.random() < 0.5)
        visits = [self.read, self.read, self.vanish, self.head, random.choice((self.read, self.vanish, self.dawdle))]
        await asyncio.gather(*(visit(message) for visit in visits))
        await self.settle(message)

    async def forward(self, message: Message) -> None:
        """Forward a message, read it there, and delete it."""
        copy, content = Message(f"copy-{random.getrandbits(48):x}"), message.now.content
        async with copy.becoming(content) as state:
            order, target = {"copy_of": message.id}, self.gateway.plain(copy.id)
            ask = partial(self.gateway.ask, "PUT", target, HOST_KEY, json=order)
            is_forwarded = await self._written("forward", ask, 200, 201)
        state.settled = True  # as the message is
        if is_forwarded:
            await self.read(copy)
            await self.delete(copy)
            await self.read(copy)

    async def receive(self) -> None:
        """Send a webhook, and the same again, wait until its medium is stored, read it, and delete it."""
        content, message = random.choice(self.provider.shelf.small), Message(new_wamid())
        webhooks = self.provider.simulator.webhooks
        medium = self.provider.simulator.media[content.media_id]
        body = encode(webhooks.payload(webhooks.media(medium, wamid=message.id)))
        async with message.becoming(content):
            await self._posted(body, sign(body, APP_SECRET), 200)
        await self._posted(body, sign(body, APP_SECRET), 200)
        await self._posted(body, sign(body, "another secret"), 401, 403)
        await self.read(message)
        for _ in range(10):
            if await self.settle(message):
                break
            await sleep(1.0)
        await self.read(message)
        await self.delete(message)

    async def look_round(self) -> None:
        """Ask what operators and chat histories ask."""
        ids = [message.id for message in random.sample(self.hot, 20)]
        ask, order = self.gateway.ask, {"urls": [{"message_id": each} for each in ids]}
        self.ledger.expect("urls", await ask("POST", "/media/urls", HOST_KEY, json=order), 200)
        self.ledger.expect("page", await ask("GET", "/media/messages?limit=50&workspace_id=default", HOST_KEY), 200)
        self.ledger.expect("metrics", await ask("GET", "/metrics"), 200)
        self.ledger.expect("readyz", await ask("GET", "/readyz"), 200)

    def action(self) -> Awaitable[None]:
        """Draw one of all these."""
        (draw,) = random.choices(list(_ACTIONS), list(_ACTIONS.values()))
        return draw(self)

    async def _judged(self, what: str, message: Message, method: str, headers: Mapping[str, str], check: Check) -> None:
        target, credential = self._credential(message)
        self._judge(what, message, await self.gateway.ask(method, target, {**headers, **credential}), check)

    def _judge(self, what: str, message: Message, answer: Answer, check: Check) -> None:
        self.ledger.judge(what, message, answer, check, troubled=self.provider.troubled(answer.began))

    def _credential(self, message: Message) -> tuple[str, dict[str, str]]:
        plain = self.gateway.plain(message.id)
        kinds = [
            (self.gateway.signed(message.id), {}),
            (plain, {"Authorization": f"Bearer {token()}"}),
            (plain, HOST_KEY),
            (plain, {"X-Origin-Verify": ORIGIN_SECRET}),
        ]
        (drawn,) = random.choices(kinds, (70, 15, 10, 5))
        return drawn

    async def _posted(self, body: bytes, signature: str, *statuses: int) -> None:
        headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
        ask = partial(self.gateway.ask, "POST", "/webhooks/whatsapp", headers, data=body)
        await self._written("webhook", ask, *statuses)

    async def _written(self, what: str, ask: Callable[[], Awaitable[Answer]], *statuses: int) -> bool:
        """Have something written, and as every host application and Meta do, ask again while the database is busy."""
        for _ in range(TRIES):
            answer = await ask()
            if answer.status != 503:
                break
            self.ledger.excused[f"{what} 503"] += 1
            await sleep(1.0)
        return self.ledger.expect(what, answer, *statuses)

    async def _opened(self, message: Message) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.gateway.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=16 * KB)
        writer.write(f"GET {self.gateway.signed(message.id)} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        return reader, writer


def _dealt(messages: Sequence[Message], contents: Sequence[Content]) -> list[tuple[Message, Content]]:
    return [(message, contents[number % len(contents)]) for number, message in enumerate(messages)]


def _way(content: Content) -> tuple[dict[str, str], Check]:
    """Draw a way to ask for a content: request fields, and what the answer has to be then."""
    size = len(content.body)
    first, step = random.randrange(size), size // 8
    last = first + random.randint(0, size // 2)
    spans = [(3 * number * step, 3 * number * step + step // 2) for number in range(3)]
    several = ", ".join(f"{start}-{stop}" for start, stop in spans)
    ways: dict[int, tuple[dict[str, str], Check]] = {
        50: ({}, checks.whole),
        15: ({"Range": f"bytes={first}-{last}"}, checks.part(first, last)),
        5: ({"Range": f"bytes={first}-"}, checks.part(first, None)),
        6: ({"Range": f"bytes=-{first + 1}"}, checks.part(-first - 1, None)),
        8: ({"Range": f"bytes={several}"}, checks.parts(spans)),
        9: ({"If-None-Match": content.etag}, checks.unless(content)),
        7: (
            {"Range": f"bytes={first}-{last}", "If-Range": content.etag},
            checks.part_if(content, first, last),
        ),
    }
    (drawn,) = random.choices(list(ways.values()), list(ways))
    return drawn


def _popular(messages: Sequence[Message]) -> Message:
    """Draw by Zipf's law."""
    (drawn,) = random.choices(messages, [1 / rank for rank in range(1, len(messages) + 1)])
    return drawn


_ACTIONS: dict[Callable[[Load], Awaitable[None]], float] = {
    lambda load: load.read(_popular(load.hot)): 50,
    lambda load: load.read(random.choice(load.photographs)): 6,
    lambda load: load.read(random.choice(load.large)): 3,
    lambda load: load.head(_popular(load.hot)): 6,
    lambda load: load.variant(_popular(load.photographs)): 8,
    lambda load: load.stream(random.choice(load.films)): 3,
    lambda load: load.vanish(random.choice((*load.large, *load.hot))): 8,
    lambda load: load.dawdle(random.choice(load.large)): 1.5,
    lambda load: load.change(random.choice(load.changing)): 3,
    lambda load: load.crowd(random.choice(list(load.cold))): 2.5,
    lambda load: load.forward(_popular(load.hot)): 1.5,
    lambda load: load.receive(): 1.5,
    lambda load: load.refused(_popular(load.hot)): 1,
    lambda load: load.look_round(): 1,
}
"""What is done, and how often beside all else."""
