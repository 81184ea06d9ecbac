"""``GET /metrics``, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from perdure.server._figures import Figures


class Metrics:
    """Reads the figures whenever somebody asks."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Blocks for a look at the disk."""
        written: bytes = generate_latest(self._registry)
        return written

    def collect(self) -> Iterator[Any]:
        """What the registry asks for."""
        figures, counts = self._figures, self._figures.counts
        now = figures.now()
        yield GaugeMetricFamily("perdure_seq", "Of the last entry that is applied.", now.seq)
        yield GaugeMetricFamily("perdure_durable_seq", "Everything up to here survives a power cut.", now.durable_seq)
        yield GaugeMetricFamily("perdure_snapshot_seq", "Of the newest snapshot.", now.snapshot_seq)
        yield GaugeMetricFamily("perdure_disk_bytes", "What the directory holds.", now.disk_bytes)
        yield GaugeMetricFamily("perdure_calls_running", "Calls that have no answer yet.", counts.calls_now)
        yield GaugeMetricFamily("perdure_feeds", "Replicas that are being sent entries.", counts.feeds_now)
        yield GaugeMetricFamily("perdure_start_time_seconds", "When this server began, Unix time.", counts.started)
        calls = CounterMetricFamily("perdure_calls", "Answered calls.", labels=("method", "status"))
        for (method, status), count in list(counts.calls.items()):
            calls.add_metric((method, status), count)
        yield calls
        seconds = CounterMetricFamily("perdure_call_seconds", "Time until the answer, summed.", labels=("method",))
        for method, total in list(counts.seconds.items()):
            seconds.add_metric((method,), total)
        yield seconds
        failures = CounterMetricFamily("perdure_refused", "Requests that reached no method.", labels=("why",))
        for why, count in list(counts.failures.items()):
            failures.add_metric((why,), count)
        yield failures
        yield from self._replicas(now.replicas)

    def _replicas(self, replicas: Any) -> Iterator[Any]:
        entries = GaugeMetricFamily("perdure_replica_lag_entries", "Entries it has not applied.", labels=("replica",))
        seconds = GaugeMetricFamily("perdure_replica_lag_seconds", "Since it had all.", labels=("replica",))
        for each in replicas:
            entries.add_metric((each.id,), each.lag_entries)
            seconds.add_metric((each.id,), each.lag_s)
        yield entries
        yield seconds
