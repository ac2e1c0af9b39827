"""Everything that the model is fed: what was measured, what is assumed of the world, and list prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12  # bytes, as networks and vendors count
DAY = 86_400.0  # seconds
MONTH = 30.4 * DAY


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of ours, and what measures it."""

    value: float
    unit: str
    by: str
    """A part of ``python -m tests.bench``, or where it is written."""


MEASURED: Mapping[str, Measured] = MappingProxyType(
    {
        "a small answer from memory": Measured(80e-6, "s of CPU", "speed: 8 KB, hot"),
        "a small answer from storage": Measured(440e-6, "s of CPU", "speed: 8 KB, from storage"),
        "a megabyte more": Measured(640e-6, "s of CPU", "speed: 16 MB, from storage, divided by 16"),
        "a redirect": Measured(70e-6, "s of CPU", "speed: redirect"),
        "a webhook": Measured(3.6e-3, "s of CPU, at most", "photographs: webhooks a second, on PostgreSQL"),
        "an ingest": Measured(92e-3, "s of CPU of a worker", "photographs: stored on PostgreSQL"),
        "an ingest at the database": Measured(18e-3, "s of CPU of its server", "photographs: stored on PostgreSQL"),
        "ingests of one worker": Measured(12, "a second", "photographs: stored on PostgreSQL"),
        "ingests on SQLite": Measured(15, "a second", "photographs: stored on SQLite, by one worker"),
        "processing a photograph": Measured(0.3, "s of CPU", "photographs: processed, of 2 MP"),
        "processing a second of film": Measured(0.72, "s of CPU", "docs/decisions.md, Films"),
        "processing a second of sound": Measured(0.02, "s of CPU", "docs/decisions.md, Sound"),
        "an HTTP process": Measured(76 * MB, "bytes", "memory: serve, bucket"),
        "an idle connection": Measured(9.3 * KB, "bytes", "memory"),
        "a stream": Measured(510 * KB, "bytes", "memory: from the bucket to a slow client"),
        "a cached record": Measured(6.9 * KB, "bytes", "memory"),
        "a cached object": Measured(9.6 * KB, "bytes, of 8,192", "memory"),
        "records of a medium": Measured(3.4 * KB, "bytes of PostgreSQL", "photographs: stored on PostgreSQL"),
        "a variant's record": Measured(340, "bytes of PostgreSQL", "growth: its population"),
        "jobs of a medium": Measured(3.8 * KB, "bytes of PostgreSQL", "photographs: stored on PostgreSQL"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of media, as chats have them."""

    share: float
    """Of all media."""
    size: float
    """Bytes of the original."""
    renditions: float
    """Bytes of all renditions together."""
    objects: int
    """That are stored, the original included."""
    seconds: float = 0.0
    """That it lasts."""
    looks: float = 0.0
    """At its thumbnail, of `THUMBNAIL` bytes, in all its life."""
    views: float = 0.0
    """Of it in whole."""
    shown: float = 0.0
    """Bytes of one view."""
    requests: float = 1.0
    """Of one view: players ask by range."""


THUMBNAIL = 8 * KB
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "photographs": Kind(
            share=0.62, size=300 * KB, renditions=330 * KB, objects=7, looks=8, views=3, shown=120 * KB
        ),
        "stickers": Kind(share=0.12, size=40 * KB, renditions=40 * KB, objects=5, views=8, shown=40 * KB),
        "voice notes": Kind(
            share=0.15, size=60 * KB, renditions=250 * KB, objects=3, seconds=15, views=2, shown=60 * KB, requests=2
        ),
        "films": Kind(
            share=0.08,
            size=5 * MB,
            renditions=9 * MB,
            objects=13,
            seconds=30,
            looks=8,
            views=1.5,
            shown=4 * MB,
            requests=5,
        ),
        "documents": Kind(share=0.03, size=600 * KB, renditions=90 * KB, objects=5, looks=4, views=1, shown=600 * KB),
    }
)

RETENTION = 365.0  # days
WARM_AFTER = 30.0  # days after which nearly nobody looks: infrequent access
LEAST = 128 * KB  # bytes, below which infrequent access costs more: so much is charged for
BUSY = 0.6  # of a processor, a disk or a connection pool at the busiest second: the rest is for the second after it
CORES, MEMORY, NETWORK = 8, 16 * GB, 10e9 / 8  # of one node: processors, bytes, bytes a second
DISK = 2 * TB  # of one node
POSTGRES_BYTES = 4 * TB  # of one server, before vacuum and backups take too long
CONNECTIONS = 1000  # of one server
HTTP_CONNECTIONS, WORKER_CONNECTIONS = 27, 47  # of one process to the database: docs/operators.md
PUTS, GETS = 3500.0, 5500.0  # a second, of one partition of a bucket: AWS-5XX
OUTAGES = (1.0, 6.0, 24.0)  # hours

# Weights of the hours of a day in one place, from midnight: people sleep, and write most in the evening.
HOURS = (
    *(0.35, 0.2, 0.12, 0.1, 0.1, 0.2, 0.45, 0.75, 1.0, 1.15, 1.25, 1.3),
    *(1.4, 1.35, 1.25, 1.2, 1.25, 1.35, 1.5, 1.7, 1.85, 1.8, 1.45, 0.85),
)
BURST = 3.0  # media that come at once, on average: albums


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One size of an installation, and how it is built."""

    name: str
    media: float
    """A day."""
    zones: tuple[tuple[int, float], ...]
    """Places: the hours that each is ahead, and its share of the media."""
    edge: float
    """Share of requests that a CDN answers."""
    memory: float
    """Share of the small ones that come through, which the memory cache answers."""
    redirects: bool
    """Whether what is large is fetched past the gateway."""


_ONE_PLACE, _WORLD = ((0, 1.0),), ((-3, 0.35), (1, 0.2), (3, 0.1), (5, 0.35))
SIZES = (
    Size(name="ten thousand", media=1e4, zones=_ONE_PLACE, edge=0.0, memory=0.5, redirects=False),
    Size(name="ten million", media=1e7, zones=_ONE_PLACE, edge=0.6, memory=0.35, redirects=False),
    Size(name="ten billion", media=1e10, zones=_WORLD, edge=0.7, memory=0.2, redirects=True),
)

Tiers = tuple[tuple[float, float], ...]
"""Prices per unit, each with how many units it is for; the last one is for all others."""

PRICES_AS_OF = "November 2026"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """List prices of a bucket and of what is in front of it, in US dollars."""

    name: str
    storage: float
    """A GB and month."""
    infrequent: float
    """The same, where nearly nobody looks."""
    put: float
    """A million."""
    get: float
    """A million."""
    move: float
    """A million, to where it is infrequent access."""
    egress: Tiers
    """A GB, from the edge, in GB a month."""
    requests: float
    """At the edge, a million."""


VENDORS = (
    Vendor(
        name="S3 and CloudFront",
        storage=0.023,
        infrequent=0.0125,
        put=5.0,
        get=0.4,
        move=10.0,
        egress=(
            (10e3, 0.085),
            (40e3, 0.08),
            (100e3, 0.06),
            (350e3, 0.04),
            (524e3, 0.03),
            (4e6, 0.025),
            (float("inf"), 0.02),
        ),
        requests=1.0,
    ),
    Vendor(
        name="R2",
        storage=0.015,
        infrequent=0.01,
        put=4.5,
        get=0.36,
        move=4.5,
        egress=((float("inf"), 0.0),),
        requests=0.0,
    ),
)
NODE = 8 * 0.04048 + 16 * 0.004445  # dollars an hour: Fargate, us-east-1, 8 vCPU and 16 GB
DATABASE = 1.9  # dollars an hour: RDS for PostgreSQL, 8 vCPU and 64 GB, in two zones
DATABASE_STORAGE = 0.23  # dollars a GB and month: RDS gp3, in two zones
