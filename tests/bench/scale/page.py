"""The tables of ``docs/scale.md``."""

from collections.abc import Callable, Iterable, Sequence
from math import floor, log10

from tests.bench.scale import days
from tests.bench.scale.inputs import GB, KB, KINDS, MB, MEASURED, OUTAGES, SIZES, TB, VENDORS, Size
from tests.bench.scale.model import Need, ceilings, dollars, holdings, medium, need

BEGIN, END = "<!-- python -m tests.bench.scale -->", "<!-- end -->"
_WORDS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
_WEEK = 7 * 24.0  # hours


def page() -> str:
    """Return everything that is computed, as Markdown."""
    tables = (_media, _holdings, _ceilings, _giving_way, _sizes, _outages, _dollars, _measured)
    return "\n\n".join(table() for table in tables)


def inserted(text: str) -> str:
    """Return a document with the tables in their place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{page()}\n\n{END}{rest.partition(END)[2]}"


def about(number: float) -> str:
    """Write a number to two digits: more are not known."""
    if number == float("inf"):
        return "never"
    if number in range(100):
        return f"{number:.0f}"
    rounded = round(number, 1 - floor(log10(abs(number))))
    for unit, word in _WORDS:
        if rounded >= unit:
            return f"{about(rounded / unit)} {word}"
    return f"{rounded:,.{max(0, 1 - floor(log10(rounded)))}f}"


def _media() -> str:
    each = medium(SIZES[0])
    rows = [
        (name, f"{kind.share:.0%}", _bytes(kind.size), _bytes(kind.renditions), about(kind.looks), about(kind.views))
        for name, kind in KINDS.items()
    ]
    rows.append(("the average", "", _bytes(each.received), _bytes(each.kept - each.received), "", ""))
    head = ("medium", "share", "as it comes", "renditions", "looks at its thumbnail", "views")
    return f"### What a medium is\n\n{_table(head, rows)}"


def _holdings() -> str:
    rows = [(each.what, about(each.count), each.unit) for each in holdings()]
    return f"### What one node holds\n\n{_table(('', 'at most', ''), rows)}"


def _ceilings() -> str:
    rows = [(each.what, about(each.media), each.beyond) for each in ceilings(SIZES[0])]
    head = ("ceiling", "media a day", "beyond it")
    return f"### How far one of each goes\n\n{_table(head, rows)}"


def _sizes() -> str:
    needs = [need(size) for size in SIZES]
    rows: list[tuple[str, Callable[[Need], str]]] = [
        ("media a second: busiest hour", lambda each: about(each.hour)),
        ("busiest second", lambda each: about(each.second)),
        ("requests a second at the gateway, then", lambda each: about(each.requests)),
        ("traffic of the gateway, then", lambda each: f"{_bytes(each.traffic)}/s"),
        ("nodes that serve", lambda each: about(each.servers) if each.databases else "1, for all"),
        ("nodes that ingest and process", lambda each: about(each.workers) if each.databases else "the same"),
        ("databases, each with records and queue", lambda each: about(each.databases) if each.databases else "SQLite"),
        ("connections to them", lambda each: about(each.connections) if each.databases else "few"),
        ("bytes in them, after a year", lambda each: _bytes(each.rows)),
        ("PUTs a second", lambda each: about(each.puts)),
        ("GETs a second", lambda each: about(each.gets)),
        ("partitions of buckets", lambda each: about(each.partitions)),
        ("bytes in buckets, after a year", lambda each: _bytes(each.bucket)),
    ]
    table = [
        ("answered by the CDN", *(f"{size.edge:.0%}" for size in SIZES)),
        *((name, *map(show, needs)) for name, show in rows),
    ]
    return f"### What a size takes\n\n{_table(('a day', *(size.name for size in SIZES)), table)}"


def _giving_way() -> str:
    rows = [(size.name, _passed(size), _next(size)) for size in SIZES]
    return f"### What gives way\n\n{_table(('a day', 'ceilings passed, the first one first', 'the next one'), rows)}"


def _passed(size: Size) -> str:
    return "; ".join(each.what for each in ceilings(SIZES[0]) if each.media < size.media)


def _next(size: Size) -> str:
    above = [each for each in ceilings(SIZES[0]) if each.media >= size.media]
    return f"{above[0].what}, at {about(above[0].media)}" if above else "none: from here on, more of the same"


def _outages() -> str:
    rows = []
    for size in SIZES:
        capacity = need(size).capacity
        found = [days.backlog(size, outage, capacity) for outage in OUTAGES]
        longest = _WEEK * (1 - size.media / 86_400 / capacity)
        cells = [f"{about(each.media)}, {_time(each.hours)}" for each in found]
        rows.append((size.name, *cells, f"{about(longest / 24)} days"))
    head = ("a day", *(f"{about(outage)} h" for outage in OUTAGES), "longest that loses nothing")
    return f"### What an outage leaves behind\n\n{_table(head, rows)}"


def _dollars() -> str:
    bills = [(f"{size.name}, {vendor.name}", dollars(size, vendor)) for size in SIZES for vendor in VENDORS]
    items = list(bills[0][1])
    rows = [(name, *(about(bill[item]) for item in items), about(sum(bill.values()))) for name, bill in bills]
    return f"### What it costs a month\n\n{_table(('dollars', *items, 'together'), rows)}"


def _measured() -> str:
    rows = [(name, f"{each.value:,g} {each.unit}", each.by) for name, each in MEASURED.items()]
    return f"### What was measured\n\n{_table(('', 'value', 'by'), rows)}"


def _time(hours: float) -> str:
    return f"{about(hours)} h" if hours >= 1 else f"{about(hours * 60)} min"


def _bytes(number: float) -> str:
    for unit, name in ((1e18, "EB"), (1e15, "PB"), (TB, "TB"), (GB, "GB"), (MB, "MB"), (KB, "KB")):
        if number >= unit:
            return f"{about(number / unit)} {name}"
    return f"{about(number)} B"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
