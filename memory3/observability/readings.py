"""What a metrics endpoint says at a moment, and what two moments say about the time between.

It reads Prometheus's text format over HTTP, as Prometheus does, and must not know any service.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from memory3.errors import BackendUnavailableError

_MAX_BYTES = 16 << 20

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Reading:
    """Every sample of an endpoint at one moment.

    Attributes:
        taken: When, on ``time.monotonic``.
        samples: Values by name and labels.
    """

    taken: float
    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's samples that have these labels; None where it has none at all."""
        wanted = set(labels.items())
        found = [v for key, v in self.samples.get(name, {}).items() if wanted <= key]
        return sum(found) if found else None

    def largest(self, name: str) -> float | None:
        """The largest of a metric's samples; None where it has none."""
        return max(self.samples.get(name, {}).values(), default=None)

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """The cumulated counts of a histogram by upper bound, summed over all other labels."""
        wanted, counts = set(labels.items()), dict[float, float]()
        for key, value in self.samples.get(f"{name}_bucket", {}).items():
            if wanted <= key:
                bound = float(dict(key)["le"])
                counts[bound] = counts.get(bound, 0.0) + value
        return counts


@dataclass(frozen=True)
class Between:
    """What happened between two readings of one process.

    A process that was started anew in between counts from nothing, so nothing is said of it.
    """

    before: Reading
    after: Reading

    def rate(self, name: str, **labels: str) -> float | None:
        """How much a counter grew a second; None where it is not there."""
        grown = self.growth(name, **labels)
        return None if grown is None else grown / max(1e-9, self.after.taken - self.before.taken)

    def growth(self, name: str, **labels: str) -> float | None:
        """How much a counter grew; None where it is not there, or began anew."""
        now = self.after.total(name, **labels)
        if now is None:
            return None
        grown = now - (self.before.total(name, **labels) or 0.0)
        return grown if grown >= 0 else None

    def share(
        self, part: tuple[str, dict[str, str]], *of: tuple[str, dict[str, str]]
    ) -> float | None:
        """The growth of one counter by that of others together; None where those did not grow."""
        whole = sum(self.growth(name, **labels) or 0.0 for name, labels in of)
        return (self.growth(part[0], **part[1]) or 0.0) / whole if whole else None

    def quantile(self, name: str, q: float, **labels: str) -> float | None:
        """The value that a share ``q`` of what a histogram counted in between stays below.

        Within its bucket as Prometheus does it, by a straight line; None where nothing was counted.
        """
        old = self.before.buckets(name, **labels)
        counts = [
            (bound, count - old.get(bound, 0.0))
            for bound, count in sorted(self.after.buckets(name, **labels).items())
        ]
        if not counts or counts[-1][1] <= 0:
            return None
        rank, below, lower = q * counts[-1][1], 0.0, 0.0
        for bound, count in counts:
            if count >= rank and count > below:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        return lower


def read(address: str, timeout_s: float = 2.0) -> Reading:
    """Read an endpoint once.

    Args:
        address: ``HOST:PORT`` of a metrics port.
        timeout_s: How long to wait, in seconds.

    Raises:
        BackendUnavailableError: It does not answer, or with something else.
    """
    # No proxy: one that is meant for the web does not reach these ports.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    samples: dict[str, dict[Labels, float]] = {}
    try:
        with opener.open(f"http://{address}/metrics", timeout=timeout_s) as page:
            text = page.read(_MAX_BYTES).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    except (OSError, ValueError) as error:
        raise BackendUnavailableError(
            f"no metrics at {address}",
            field="metrics",
            remedy="start the service with --metrics-port, and name that port",
            metadata={"target": address},
        ) from error
    return Reading(time.monotonic(), samples)
