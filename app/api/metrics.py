"""Counters of the API, and the text that Prometheus reads."""

from collections import Counter

from app.connections import connections
from app.decoding import decoders
from app.serving.serving import serving

# The buckets of Prometheus's histogram of request times, in seconds.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Counters:
    """What /metrics tells. Changed on the event loop only, so that it needs no lock."""

    def __init__(self) -> None:
        """Everything starts at zero."""
        self.active = self.working = self.held = 0
        self.statuses: Counter[int] = Counter()
        self.images: Counter[str] = Counter()
        self.buckets = [0] * len(BUCKETS)
        self.seconds = 0.0

    def record(self, status: int, seconds: float) -> None:
        """Count one answered request of /api/predict."""
        self.statuses[status] += 1
        self.seconds += seconds
        for index, bound in enumerate(BUCKETS):
            self.buckets[index] += seconds <= bound


counters = Counters()


def metrics_text() -> str:
    """The counters in Prometheus's text format."""
    shared = serving()
    served = shared.served
    lines = ["# TYPE manasight_requests_total counter"]
    lines += [f'manasight_requests_total{{status="{key}"}} {n}' for key, n in sorted(counters.statuses.items())]
    lines.append("# TYPE manasight_images_total counter")
    lines += [f'manasight_images_total{{outcome="{key}"}} {n}' for key, n in sorted(counters.images.items())]
    lines.append("# TYPE manasight_request_seconds histogram")
    lines += [
        f'manasight_request_seconds_bucket{{le="{bound}"}} {n}'
        for bound, n in zip(BUCKETS, counters.buckets, strict=True)
    ]
    total = counters.statuses.total()
    lines += [
        f'manasight_request_seconds_bucket{{le="+Inf"}} {total}',
        f"manasight_request_seconds_sum {counters.seconds:.6f}",
        f"manasight_request_seconds_count {total}",
    ]
    gauges = {
        "connections": len(connections.open),
        "requests_active": counters.active,
        "images_waiting": shared.batcher.waiting,
        "decoding_waiting": decoders.waiting,
        "decoding_oldest_seconds": round(decoders.oldest, 3),
        "decoders": len(decoders.workers),
        "model_ready": int(served is not None),
        "registry_trouble": int(shared.trouble),
        "watchdog_ok": int(not shared.watchdog.problem),
    }
    for name, value in gauges.items():
        lines += [f"# TYPE manasight_{name} gauge", f"manasight_{name} {value}"]
    for name, value in sorted(decoders.counts.items()):
        lines += [f"# TYPE manasight_decoder_{name}_total counter", f"manasight_decoder_{name}_total {value}"]
    ended = connections.dropped + connections.timed_out
    lines += ["# TYPE manasight_connections_ended_total counter", f"manasight_connections_ended_total {ended}"]
    totals = {"swaps": shared.swaps, "refused": shared.refusals, "rollbacks": shared.rollbacks}
    for name, value in totals.items():
        lines += [f"# TYPE manasight_model_{name}_total counter", f"manasight_model_{name}_total {value}"]
    if served:
        version = served.champion.version if served.champion else ""
        lines.append("# TYPE manasight_model_info gauge")
        lines.append(f'manasight_model_info{{version="{version}",sha256="{served.model.sha256}"}} 1')
    return "\n".join(lines) + "\n"
