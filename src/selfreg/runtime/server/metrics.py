"""Figures for Prometheus."""

from __future__ import annotations

from selfreg._util.extras import require_extra
from selfreg.runtime.server.service import Service

with require_extra("serve", "selfreg.runtime.server"):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """Counters of one server, and gauges that are read from the ledger when somebody looks."""

    def __init__(self, service: Service) -> None:
        self._service, self._registry = service, CollectorRegistry()
        labels, registry = ("path", "status"), self._registry
        self._requests = Counter("selfreg_requests", "HTTP requests", labels, registry=registry)
        self._seconds = Histogram("selfreg_seconds", "Time to answer", ("path",), buckets=SECONDS, registry=registry)
        self._decisions = Counter("selfreg_decisions", "Replies to decide, by action", ("action",), registry=registry)
        self._left = Gauge("selfreg_budget_left", "Units that a new run could spend", ("unit",), registry=registry)
        self._open = Gauge("selfreg_open_requests", "Requests that wait for a person", registry=registry)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an HTTP request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_decision(self, action: str) -> None:
        """Count a reply to decide."""
        self._decisions.labels(action).inc()

    def text(self) -> bytes:
        """All figures in the text format; reads the ledger."""
        ledger = self._service.recorder.ledger
        for unit, left in zip(ledger.units, ledger.left, strict=True):
            self._left.labels(unit).set(left)
        self._open.set(len(self._service.desk.requests("open")))
        return bytes(generate_latest(self._registry))
