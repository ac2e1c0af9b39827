"""The arithmetic: what one medium takes, where the ceilings are, how much of everything a size needs, what it costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from tests.bench.scale import days
from tests.bench.scale.inputs import (
    BUSY,
    CONNECTIONS,
    CORES,
    DATABASE,
    DATABASE_STORAGE,
    DAY,
    DISK,
    GB,
    GETS,
    HTTP_CONNECTIONS,
    KB,
    KINDS,
    LEAST,
    MB,
    MEASURED,
    MEMORY,
    MONTH,
    NETWORK,
    NODE,
    POSTGRES_BYTES,
    PUTS,
    RETENTION,
    THUMBNAIL,
    WARM_AFTER,
    WORKER_CONNECTIONS,
    Kind,
    Size,
    Vendor,
)

SMALL = 100 * KB  # bytes, up to which an answer may come from memory, and is never redirected
WEEK = 7.0  # days for which jobs that are done are kept


def measured(name: str) -> float:
    """Return what was measured."""
    return MEASURED[name].value


@dataclass(frozen=True, slots=True)
class Medium:
    """The average medium, and what all its views together take of an installation."""

    received: float
    """Bytes."""
    kept: float
    """Bytes, with the renditions."""
    cold: float
    """Bytes of these that are worth moving to infrequent access."""
    objects: float
    moved: float
    """Objects of these."""
    processing: float
    """Seconds of CPU."""
    requests: float
    """Of all clients, in all its life."""
    shown: float
    """Bytes, to all clients."""
    asked: float
    """Requests that reach the gateway."""
    serving: float
    """Seconds of CPU for these, and for its webhook."""
    sent: float
    """Bytes through the gateway, to clients or the CDN."""
    read: float
    """Requests that reach the bucket."""


def medium(size: Size) -> Medium:
    """Return the average medium of an installation."""
    kinds = [(kind.share, kind) for kind in KINDS.values()]
    large = [(share, kind) for share, kind in kinds if kind.size >= LEAST]
    visits = [(share * kind.looks, THUMBNAIL) for share, kind in kinds if kind.looks]
    visits += [(share * kind.views * kind.requests, kind.shown / kind.requests) for share, kind in kinds]
    through = [(count * (1 - size.edge), length) for count, length in visits]
    redirected = [size.redirects and length > SMALL for _, length in through]
    costs = [_serving(size, length, past=past) for (_, length), past in zip(through, redirected, strict=True)]
    return Medium(
        received=sum(share * kind.size for share, kind in kinds),
        kept=sum(share * (kind.size + kind.renditions) for share, kind in kinds),
        cold=sum(share * (kind.size + kind.renditions * (kind.size > MB)) for share, kind in large),
        objects=sum(share * kind.objects for share, kind in kinds),
        moved=sum(share * (kind.objects if kind.size > MB else 1) for share, kind in large),
        processing=sum(share * _processing(kind) for share, kind in kinds),
        requests=sum(count for count, _ in visits),
        shown=sum(count * length for count, length in visits),
        asked=sum(count for count, _ in through),
        serving=measured("a webhook") + sum(n * cost for (n, _), cost in zip(through, costs, strict=True)),
        sent=sum(n * length for (n, length), past in zip(through, redirected, strict=True) if not past),
        read=sum(n * (1 - size.memory if length <= SMALL else 1) for n, length in through),
    )


def _serving(size: Size, length: float, *, past: bool) -> float:
    """Return the seconds of CPU of one answer of so many bytes."""
    if past:
        return measured("a redirect")
    stored = measured("a small answer from storage") + length / MB * measured("a megabyte more")
    if length > SMALL:
        return stored
    return size.memory * measured("a small answer from memory") + (1 - size.memory) * stored


def _processing(kind: Kind) -> float:
    if kind.seconds:
        name = "a second of film" if kind.size > MB else "a second of sound"
        return kind.seconds * measured(f"processing {name}")
    return measured("processing a photograph") * min(1.0, kind.size / (300 * KB))


@dataclass(frozen=True, slots=True)
class Need:
    """What a size needs."""

    hour: float
    """Media a second in the busiest hour."""
    second: float
    """Media a second in the busiest second."""
    requests: float
    """A second at the gateway, then."""
    traffic: float
    """Bytes a second that leave the gateway, then."""
    servers: int
    """Nodes that serve HTTP."""
    workers: int
    """Nodes that ingest and process."""
    capacity: float
    """Media a second that these can take in."""
    databases: int
    """Servers of PostgreSQL; 0 where SQLite is enough."""
    connections: int
    """Of all processes to databases."""
    puts: float
    """A second, in the busiest hour."""
    gets: float
    """A second, in the busiest one."""
    partitions: int
    """Of buckets."""
    rows: float
    """Bytes in databases after the retention."""
    bucket: float
    """Bytes in buckets after the retention."""

    @property
    def nodes(self) -> int:
        """All nodes; one does both where that is enough."""
        return 1 if not self.databases else self.servers + self.workers


def need(size: Size) -> Need:
    """Return what a size needs, each part busy to `BUSY` at most."""
    each, mean = medium(size), size.media / DAY
    hour, second = mean * days.busiest_hour(size), mean * days.busiest_second(size)
    processors, network = second * each.serving / CORES, 2 * second * each.sent / NETWORK  # in from the bucket, and out
    taking = measured("an ingest") + each.processing
    workers = ceil(hour * taking / CORES / BUSY)
    servers = ceil(max(processors, network) / BUSY)
    is_one = (second * each.serving + hour * taking) / CORES <= BUSY and hour <= BUSY * measured("ingests on SQLite")
    rows = size.media * (RETENTION * _records(each) + WEEK * measured("jobs of a medium"))
    processes = max(workers, ceil(hour / measured("ingests of one worker") / BUSY))
    connections = CORES * servers * HTTP_CONNECTIONS + processes * WORKER_CONNECTIONS
    writes = hour * measured("an ingest at the database") / CORES / BUSY
    puts, gets = hour * each.objects, second * each.read
    return Need(
        hour=hour,
        second=second,
        requests=second * each.asked,
        traffic=second * each.sent,
        servers=servers,
        workers=workers,
        capacity=measured("ingests on SQLite") if is_one else workers * CORES / taking,
        databases=0 if is_one else ceil(max(writes, rows / POSTGRES_BYTES, connections / CONNECTIONS)),
        connections=connections,
        puts=puts,
        gets=gets,
        partitions=ceil(max(puts / PUTS, gets / GETS) / BUSY),
        rows=rows,
        bucket=size.media * RETENTION * each.kept,
    )


def _records(each: Medium) -> float:
    """Return the bytes that a database keeps of a medium, once its jobs are forgotten."""
    return measured("records of a medium") + (each.objects - 1) * measured("a variant's record")


@dataclass(frozen=True, slots=True)
class Holding:
    """How much of something one node holds."""

    what: str
    count: float
    unit: str


def holdings() -> list[Holding]:
    """Return what one node of `CORES`, `MEMORY` and `NETWORK` holds, if it has nothing else to do."""
    free = BUSY * (MEMORY - CORES * measured("an HTTP process"))
    answers = {
        "small answers from memory": measured("a small answer from memory"),
        "small answers from storage": measured("a small answer from storage"),
        "redirects": measured("a redirect"),
        "webhooks": measured("a webhook"),
        "ingests": measured("an ingest"),
        "photographs processed": measured("processing a photograph"),
        "seconds of film processed": measured("processing a second of film"),
    }
    large = min(CORES * BUSY / measured("a megabyte more"), NETWORK * BUSY / 2 / MB)  # in from the bucket, and out
    kept = ("an idle connection", "a stream", "a cached record", "a cached object")
    return [
        *(Holding(what, CORES * BUSY / cost, "a second") for what, cost in answers.items()),
        Holding("megabytes of large answers", large, "a second"),
        *(Holding(what.partition(" ")[2] + "s", free / measured(what), "at once") for what in kept),
    ]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How far something goes, and what there is beyond it."""

    what: str
    media: float
    """A day."""
    beyond: str


def ceilings(size: Size) -> list[Ceiling]:
    """Return the ceilings, the lowest first, of an installation that begins on one node, without CDN or redirects."""
    return sorted(_ceilings(size), key=lambda each: each.media)


def _ceilings(size: Size) -> Iterator[Ceiling]:
    each, peak = medium(size), days.busiest_hour(size)
    daily = DAY * BUSY / peak  # media a day for each that is taken in a second of the busiest hour
    working = measured("an ingest") + each.processing
    one_database = CORES / measured("an ingest at the database")
    # Of serving, a process for each core; of ingest, a process for each node, or more where it has too many jobs.
    processes = max(working / CORES, 1 / measured("ingests of one worker"))
    connections = each.serving * HTTP_CONNECTIONS + processes * WORKER_CONNECTIONS
    yield Ceiling("the processors of one node", CORES / (each.serving + working) * daily, "nodes for workers")
    yield Ceiling("SQLite, with one worker", measured("ingests on SQLite") * daily, "PostgreSQL")
    yield Ceiling("the network of one node", NETWORK / 2 / each.sent * daily, "a CDN; redirects; nodes that serve")
    yield Ceiling("the disk of one node, for a year", DISK / each.kept / RETENTION, "a bucket")
    yield Ceiling("one database's processors", one_database * daily, "shards by workspace")
    yield Ceiling("one database's bytes, for a year", POSTGRES_BYTES / _records(each) / RETENTION, "the same")
    yield Ceiling("one database's connections", CONNECTIONS / connections * daily, "a pooler, then shards")
    yield Ceiling("one partition's PUTs", PUTS / each.objects * daily, "the bucket splits by itself, in time")
    yield Ceiling("one partition's GETs", GETS / each.read * daily, "the same; a CDN")


def dollars(size: Size, vendor: Vendor) -> dict[str, float]:
    """Return what a size costs a month at list prices, after the retention."""
    each, needed, media = medium(size), need(size), size.media * MONTH / DAY
    cold = size.media * (RETENTION - WARM_AFTER) * each.cold / GB
    asking = each.objects * vendor.put + each.read * vendor.get + each.moved * vendor.move
    return {
        "storage": (needed.bucket / GB - cold) * vendor.storage + cold * vendor.infrequent,
        "requests of the bucket": media / 1e6 * asking,
        "requests at the edge": media / 1e6 * each.requests * vendor.requests if size.edge else 0.0,
        "traffic to clients": _tiered(media * each.shown / GB, vendor),
        "nodes": needed.nodes * NODE * MONTH / 3600,
        "databases": needed.databases * DATABASE * MONTH / 3600
        + (needed.rows / GB * DATABASE_STORAGE if needed.databases else 0.0),
    }


def _tiered(amount: float, vendor: Vendor) -> float:
    total = 0.0
    for width, price in vendor.egress:
        total += min(amount, width) * price
        amount -= min(amount, width)
    return total
