"""All metrics of the gateway and its worker; labels are bounded, units are base units."""

from prometheus_client import CollectorRegistry

from gateway.metrics.ingesting import Ingesting
from gateway.metrics.serving import Serving
from gateway.metrics.storing import Storing


class Metrics(Serving, Storing, Ingesting):
    """Observes every part that wants to be observed, so that none of them knows Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        for part in (Serving, Storing, Ingesting):
            part.__init__(self, registry)
