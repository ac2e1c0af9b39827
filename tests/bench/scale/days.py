"""Days as they come: hours that are busier than others, media that come in bursts, and outages that leave a backlog."""

from dataclasses import dataclass
from functools import cache
from math import sqrt
from random import Random

from tests.bench.scale.inputs import BURST, DAY, HOURS, Size

_MANY = 300.0  # media a second, above which their number is as good as normally distributed
_MINUTE = 60.0
_LONGEST = 7 * 24 * 60  # minutes of a simulation


def hours(size: Size) -> list[float]:
    """Return how busy each hour is, on average 1, where places are hours ahead of each other."""
    mean = sum(HOURS) / len(HOURS)
    return [sum(share * HOURS[(hour + ahead) % 24] for ahead, share in size.zones) / mean for hour in range(24)]


def busiest_hour(size: Size) -> float:
    """Return how many times as many media the busiest hour has as the average one."""
    return max(hours(size))


@cache
def busiest_second(size: Size, *, seed: int = 1) -> float:
    """Return what all but one of a thousand seconds of the busiest hour stay below, in multiples of the average."""
    mean = size.media / DAY
    rate, draw = mean * busiest_hour(size), Random(seed)
    seconds = sorted(_arrivals(rate, draw) for _ in range(36_000))
    return seconds[int(len(seconds) * 0.999)] / mean


def _arrivals(rate: float, draw: Random) -> float:
    """Return how many media come in a second: albums at random, each of a geometric number."""
    if rate > _MANY:
        spread = sqrt(rate * (2 * BURST - 1))  # of a compound Poisson distribution
        return max(0.0, draw.gauss(rate, spread))
    count, at = 0, draw.expovariate(rate / BURST)
    while at < 1:
        count += 1
        while draw.random() > 1 / BURST:
            count += 1
        at += draw.expovariate(rate / BURST)
    return count


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an outage of the provider, or of all workers, leaves to be done."""

    media: float
    """At most."""
    hours: float
    """From the end of the outage until nothing waits any more."""


def backlog(size: Size, outage: float, capacity: float, *, seed: int = 2) -> Backlog:
    """Simulate an outage of so many hours from the busiest one on, minute by minute; ``capacity`` is media a second."""
    curve, draw = hours(size), Random(seed)
    begin, mean = curve.index(max(curve)) * 60, size.media / DAY * _MINUTE
    waiting, most = 0.0, 0.0
    for minute in range(_LONGEST):
        expected = mean * curve[(begin + minute) // 60 % 24]
        waiting += max(0.0, draw.gauss(expected, sqrt(expected * (2 * BURST - 1))))
        if minute >= outage * 60:
            waiting -= min(waiting, capacity * _MINUTE)
            if not waiting:
                return Backlog(most, (minute + 1) / 60 - outage)
        most = max(most, waiting)
    return Backlog(most, float("inf"))
