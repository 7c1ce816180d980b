"""What Prometheus reads at /metrics."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import (  # noqa: TID253 - `serve` alone imports this module
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(slots=True)
class Clock:
    """When things happened to one request.

    Attributes:
        begun: When it was let in.
        last: When its last token came; None before the first.
    """

    begun: float = field(default_factory=time.monotonic)
    last: float | None = None


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter(
            "lmi_requests", "Answered requests.", ("route", "status"), registry=own
        )
        self.turned_away = Counter(
            "lmi_turned_away", "Requests refused because the queue was full.", registry=own
        )
        self.cancelled = Counter(
            "lmi_cancelled", "Requests whose client left, or that took too long.", registry=own
        )
        self.restarts = Counter("lmi_restarts", "Times the worker was started anew.", registry=own)
        self.inside = Gauge(
            "lmi_requests_inside", "Requests that are being served or wait.", registry=own
        )
        self._prompt = Counter("lmi_prompt_tokens", "Tokens of accepted prompts.", registry=own)
        self._tokens = Counter("lmi_generated_tokens", "Tokens generated.", registry=own)
        self._finished = Counter(
            "lmi_finished", "Whole answers, by what ended them.", ("reason",), registry=own
        )
        self._first = Histogram(
            "lmi_time_to_first_token_seconds", "From being let in to the first token.",
            registry=own, buckets=_SECONDS,
        )  # fmt: skip
        self._between = Histogram(
            "lmi_time_between_tokens_seconds", "From a token to the next.",
            registry=own, buckets=_SECONDS,
        )  # fmt: skip
        self._whole = Histogram(
            "lmi_request_seconds", "From being let in to the whole answer.",
            registry=own, buckets=_SECONDS,
        )  # fmt: skip

    def told(self, event: Mapping[str, Any], clock: Clock) -> None:
        """Counts one thing that the worker told about a request."""
        now = time.monotonic()
        if "token" in event:
            self._tokens.inc()
            if clock.last is None:
                self._first.observe(now - clock.begun)
            else:
                self._between.observe(now - clock.last)
            clock.last = now
        elif "prompt" in event:
            self._prompt.inc(event["prompt"])
        elif "done" in event:
            self._finished.labels(event["done"]["finish_reason"]).inc()
            self._whole.observe(now - clock.begun)

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self._registry)
