"""The media of the soak, at a provider that is in trouble from time to time."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from gateway.demo.film import make_film
from gateway.demo.samples import PHOTOS
from ingest.simulator import Body, Endpoints, Faults, GraphCode, Simulator, Transport, serve
from tests.bench.soak.truth import Content
from tests.running import ACCESS_TOKEN

AFTERMATH = 150.0  # seconds after a fault in which the gateway may still spare the provider: its breaker, its memory
KB, MB = 1024, 1024**2
TROUBLES = (
    Faults(download_error=500, download_error_times=1),
    Faults(download_error=503, download_error_times=2, retry_after=1),
    Faults(graph_error=GraphCode.UNKNOWN, graph_error_times=1),
    Faults(transport=Transport.RESET, at_byte=3000),
    Faults(transport=Transport.TRUNCATED),
    Faults(transport=Transport.STALL, pause=3),
    Faults(transport=Transport.DRIP, pause=0.05, chunk_size=16 * KB),
    Faults(transport=Transport.SILENT, pause=2),
    Faults(body=Body.CORRUPT),
    Faults(body=Body.HTML),
    Faults(resolve_silent=True, pause=2),
    Faults(chunked=True),
)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Contents by what they are good for."""

    small: Sequence[Content]
    photographs: Sequence[Content]
    films: Sequence[Content]
    large: Sequence[Content]
    cold: Sequence[Content]
    """Each for one message alone, so that it is fetched anew whenever that comes back."""


@dataclass(slots=True)
class Provider:
    """The simulator, what it has, and its trouble."""

    simulator: Simulator
    endpoints: Endpoints
    shelf: Shelf
    _latest: float = field(default=-AFTERMATH)
    caused: int = 0

    def troubled(self, began: float) -> bool:
        """Whether a request that began then may have felt any trouble."""
        return self._latest + AFTERMATH >= began

    async def trouble(self, seconds: float) -> None:
        """Let something go wrong with some of the media for so long."""
        everything = [*self.shelf.small, *self.shelf.photographs, *self.shelf.large, *self.shelf.cold]
        faults, struck = random.choice(TROUBLES), random.sample(everything, len(everything) // 4)
        self.caused += 1
        for content in struck:
            self.simulator.set_faults(content.media_id, faults)
        try:
            self._latest = monotonic() + seconds
            await asyncio.sleep(seconds)
        finally:
            self._latest = monotonic()
            for content in struck:
                self.simulator.set_faults(content.media_id, None)


@asynccontextmanager
async def open_provider(folder: Path) -> AsyncIterator[Provider]:
    """Serve the provider."""
    simulator = Simulator(access_token=ACCESS_TOKEN)
    shelf = await asyncio.to_thread(_stock, simulator, folder)
    async with serve(simulator) as endpoints:
        yield Provider(simulator, endpoints, shelf)


def _stock(simulator: Simulator, folder: Path) -> Shelf:
    draw = random.Random(5)
    photos = [path.read_bytes() for path in sorted(PHOTOS.glob("*.jpg"))]
    film = folder / "film.mp4"
    make_film(sorted(PHOTOS.glob("*.jpg"))[:2], film)

    def add(body: bytes, mime_type: str = "application/octet-stream") -> Content:
        medium = simulator.add(body, mime_type)
        return Content(medium.id, mime_type, body, medium.sha256_hex)

    def noise(size: int) -> Content:
        return add(draw.randbytes(size))

    return Shelf(
        small=[noise(draw.randint(4, 40) * KB) for _ in range(60)],
        photographs=[add(photos[n % len(photos)] + b"%08d" % n, "image/jpeg") for n in range(12)],
        films=[add(film.read_bytes(), "video/mp4")],
        large=[noise(draw.randint(5, 9) * MB) for _ in range(5)],
        cold=[noise(draw.choice((20 * KB, 300 * KB, 2 * MB, 6 * MB))) for _ in range(16)],
    )
