"""Everything that answering takes, put together and taken apart again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from memory3.errors import SettingsError
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.sweeper import Sweeper
from memory3_retriever.caches.base import Cache, open_cache
from memory3_retriever.canary.canary import Canary
from memory3_retriever.files import sweep
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.models import Models, connect_models, open_checkpoints
from memory3_retriever.replication.follower import Follower
from memory3_retriever.replication.publisher import Publisher
from memory3_retriever.replication.shared import SharedStorage
from memory3_retriever.settings import RetrieverSettings

_log = get_logger(__name__)


@dataclass(frozen=True)
class Loaded:
    """The parts of a running retriever.

    Attributes:
        models: The checkpoints, each with its encoder.
        catalog: The banks.
        cache: Of memories, of all banks.
        publisher: Publishes banks; None where nothing is published.
        follower: Follows another retriever's banks; None where the banks are its own.
        default_index: The index of banks that name none.
    """

    models: Models
    catalog: Catalog
    cache: Cache
    publisher: Publisher | None
    follower: Follower | None
    default_index: str
    _cleanup: contextlib.ExitStack

    def close(self) -> None:
        """Close everything; banks last, after nobody can write to them any more."""
        self._cleanup.close()


def load(settings: RetrieverSettings, metrics: RetrieverMetrics) -> Loaded:
    """Open checkpoint, cache and banks; blocks.

    Raises:
        CheckpointError: A checkpoint cannot be used.
        SettingsError: A checkpoint is named twice.
        FailedPreconditionError: Another process uses the data folder.
        InvalidArgumentError: Cache or encoder is not named in a form that can be used.
        PluginNotFoundError: There is no such cache.
    """
    checkpoints = open_checkpoints(settings)
    with contextlib.ExitStack() as cleanup:
        catalog = Catalog(
            settings.data,
            checkpoints[0][0].digest,
            map_bytes=settings.map_bytes,
            max_bank_bytes=settings.max_bank_bytes,
            follows=bool(settings.follow),
            snapshots=settings.snapshots,
        )
        cleanup.callback(catalog.close)
        cache = open_cache(settings.cache)
        cleanup.callback(cache.close)
        metrics.caches.reports = cache.report
        # No error: a cache that is away changes speed, not answers, and may be back in a moment.
        if (fault := cache.fault()) is not None:
            _log.warning("the cache cannot be used now", cache=cache.describe(), fault=fault)
        models = connect_models(checkpoints, settings, cache, metrics, cleanup)
        catalog.open_all()
        cleanup.callback(Sweeper(catalog, models.main.memories.forget).close)
        publisher = _publisher(settings, catalog)
        follower = _follower(settings, catalog, metrics)
        for each in (publisher, follower):
            if each is not None:
                cleanup.callback(each.close)
                each.start()
        metrics.banks.set_function(lambda: len(catalog))
        metrics.indexes.banks = metrics.storage.banks = catalog.open_banks
        metrics.storage.num_damaged = lambda: len(catalog.names()) - len(catalog)
        metrics.storage.folder, metrics.storage.max_bank_bytes = (
            settings.data,
            settings.max_bank_bytes,
        )
        if settings.canary_seconds:
            cleanup.callback(Canary(catalog, models, metrics, settings.canary_seconds).close)
        return Loaded(
            models=models,
            catalog=catalog,
            cache=cache,
            publisher=publisher,
            follower=follower,
            default_index=settings.index,
            _cleanup=cleanup.pop_all(),
        )


def _publisher(settings: RetrieverSettings, catalog: Catalog) -> Publisher | None:
    if not settings.publish:
        return None
    if settings.follow:
        raise SettingsError(
            "a retriever that follows cannot publish",
            field="publish",
            remedy="give --publish to the one that is written to, and --follow to the others",
        )
    work = settings.data / "publishing"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(work)
    storage = SharedStorage(settings.publish, "publish")
    storage.make()
    return Publisher(catalog, storage, work, settings.publish_seconds)


def _follower(
    settings: RetrieverSettings, catalog: Catalog, metrics: RetrieverMetrics
) -> Follower | None:
    if not settings.follow:
        return None
    if names := catalog.names():
        raise SettingsError(
            f"the data folder holds banks of its own: {', '.join(names[:5])}",
            field="follow",
            remedy="give the retriever that follows a data folder of its own",
        )
    return Follower(
        catalog,
        SharedStorage(settings.follow, "follow"),
        settings.data / "generations",
        settings.follow_seconds,
        settings.max_bank_bytes,
        metrics,
    )
