"""What the banks take of what they may have, and what the disk has left, when Prometheus asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from memory3.errors import Memory3Error
from memory3_retriever.bank.live import LiveBank


class StorageCollector(Collector):
    """Bytes of banks and of the disk below them; deleted banks leave nothing.

    Attributes:
        banks: The banks that are open.
        num_damaged: How many cannot be opened.
        folder: The data folder; None before it is known.
        max_bank_bytes: What a bank without a quota may take.
    """

    def __init__(self) -> None:
        self.banks: Callable[[], Iterable[LiveBank]] = lambda: ()
        self.num_damaged: Callable[[], int] = lambda: 0
        self.folder: Path | None = None
        self.max_bank_bytes = 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample of each bank, and one of the disk."""
        used = GaugeMetricFamily(
            "memory3_bank_used_bytes", "Bytes of the bank's records.", labels=["bank"]
        )
        limit = GaugeMetricFamily(
            "memory3_bank_limit_bytes",
            "Bytes that its records may take: its quota, else the most that any bank may.",
            labels=["bank"],
        )
        for bank in self.banks():
            name = bank.info.name
            try:
                used.add_metric([name], bank.store.counters().used_bytes)
            except Memory3Error:
                # Deleted while we were looking, or damaged, which it says of itself.
                continue
            limit.add_metric([name], bank.info.quota_bytes or self.max_bank_bytes)
        damaged = GaugeMetricFamily(
            "memory3_banks_damaged", "Banks that cannot be opened and are not served."
        )
        damaged.add_metric([], self.num_damaged())
        size = GaugeMetricFamily("memory3_data_disk_bytes", "Size of the disk of the data folder.")
        free = GaugeMetricFamily("memory3_data_free_bytes", "What is free of it.")
        if self.folder is not None and self.folder.exists():
            disk = shutil.disk_usage(self.folder)
            size.add_metric([], disk.total)
            free.add_metric([], disk.free)
        yield from (used, limit, damaged, size, free)
