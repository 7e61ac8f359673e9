"""The api's own metrics, and their union with what workers leave in their presence cards.

Every api process shows every worker's metrics: scrape one api, or the workers will count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

log = structlog.get_logger()

CREATED = "_created"  # when a series began: nobody asks, and it doubles the page
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
GAP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 5.0)
WAIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)


class Metrics:
    """One process's counters, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "caravan_requests", "Jobs that ended", ["model", "kind", "outcome"], registry=registry
        )
        self.ttft_s = Histogram(
            "caravan_ttft_seconds",
            "Request accepted to first token relayed",
            ["model"],
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self.gap_s = Histogram(
            "caravan_inter_token_seconds",
            "Time between tokens as relayed, one observation a frame",
            ["model"],
            buckets=GAP_BUCKETS_S,
            registry=registry,
        )
        self.wait_s = Histogram(
            "caravan_api_queue_wait_seconds",
            "Enqueued to claimed, of jobs that ended well",
            ["model"],
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self.tokens = Counter("caravan_tokens", "Tokens used", ["model", "kind"], registry=registry)
        self.redis_up = Gauge(
            "caravan_api_redis_up", "Whether Redis answered when last asked", registry=registry
        )
        self.open_jobs = Gauge("caravan_api_open_jobs", "Jobs clients wait for", registry=registry)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def page(metrics: Metrics, texts: Iterable[bytes], depths: dict[str, dict[str, int]]) -> bytes:
    """The whole `/metrics` page: ours, `texts` of the workers, and `depths` by model."""
    families: dict[str, Metric] = {}
    _merge(families, [_depth_family(depths)])
    _merge(families, metrics.registry.collect())
    for text in texts:
        _merge(families, _parsed(text))
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    return generate_latest(registry)


def _depth_family(depths: dict[str, dict[str, int]]) -> Metric:
    family = Metric("caravan_queue_depth", "Jobs waiting in a lane, or running", "gauge")
    for model, lanes in depths.items():
        for lane, jobs in lanes.items():
            family.add_sample("caravan_queue_depth", {"model": model, "lane": lane}, jobs)
    return family


def _parsed(text: bytes) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(text.decode()))
    except ValueError as error:  # one worker's bad text must not hide the others
        log.warning("metrics.unreadable", error=str(error))
        return []


def _merge(into: dict[str, Metric], families: Iterable[Metric]) -> None:
    for family in families:
        if family.name.endswith(CREATED):
            continue
        family.samples = [one for one in family.samples if not one.name.endswith(CREATED)]
        known = into.get(family.name)
        if known is None:
            into[family.name] = family
        elif known.type == family.type:
            known.samples = [*known.samples, *family.samples]
        else:
            log.warning("metrics.clash", name=family.name, ours=known.type, theirs=family.type)
