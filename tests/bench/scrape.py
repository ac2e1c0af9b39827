"""Reads what a process shows at ``/metrics``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_PREFIX = "media_gateway_"


@dataclass(frozen=True, slots=True)
class Metrics:
    """The samples of one moment; names without ``media_gateway_``."""

    samples: tuple[Sample, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text format."""
        return cls(tuple(sample for family in text_string_to_metric_families(text) for sample in family.samples))

    @classmethod
    async def of(cls, client: httpx.AsyncClient, url: str) -> Self:
        """Ask a process."""
        return cls.parse((await client.get(url)).raise_for_status().text)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of that name and those labels."""
        return sum(sample.value for sample in self._matching(name, labels.items()))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the sums of such samples by what another label says."""
        found: dict[str, float] = {}
        for sample in self._matching(name, labels.items()):
            found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
        return found

    def _matching(self, name: str, labels: Iterable[tuple[str, str]]) -> Iterator[Sample]:
        wanted = set(labels)
        return (each for each in self.samples if each.name == _PREFIX + name and wanted <= each.labels.items())
