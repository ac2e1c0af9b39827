"""Which faults a medium meets, and how often it has met them."""

from collections import Counter

from ingest.simulator.faults import Faults
from ingest.simulator.traffic import HostName


class FaultPlan:
    """Faults for all media, faults for single ones, and a count of errors that happen only a few times."""

    def __init__(self) -> None:
        self._default = Faults()
        self._single: dict[str, Faults] = {}
        self._strikes: Counter[tuple[HostName, str]] = Counter()

    @property
    def default(self) -> Faults:
        """The faults of every medium that has none of its own; setting them forgets all strikes."""
        return self._default

    @default.setter
    def default(self, faults: Faults) -> None:
        self._default = faults
        self._strikes.clear()

    def set(self, media_id: str, faults: Faults | None) -> None:
        """Give a medium faults of its own, or (None) take them away; forgets its strikes."""
        self._single.pop(media_id, None)
        if faults is not None:
            self._single[media_id] = faults
        for host_name in HostName:
            del self._strikes[host_name, media_id]

    def of(self, media_id: str) -> Faults:
        """Tell the faults of a medium."""
        return self._single.get(media_id, self._default)

    def strikes(self, host_name: HostName, media_id: str, times: int | None) -> bool:
        """Tell whether an error that happens only the first so many times happens now, and count it."""
        if times is None:
            return True
        self._strikes[host_name, media_id] += 1
        return self._strikes[host_name, media_id] <= times
