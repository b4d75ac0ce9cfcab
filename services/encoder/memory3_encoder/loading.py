"""Loading what the encoder works with: checkpoint, model, embedder, codec; and warming it up.

It must not know gRPC.
"""

from __future__ import annotations

from functools import partial

from memory3.checkpoint import Checkpoint
from memory3.embedders.loading import load_embedder
from memory3.rpc.logging import get_logger
from memory3_encoder.codecs import CodecShelf
from memory3_encoder.engine.batcher import Limits
from memory3_encoder.engine.engine import EncoderEngine
from memory3_encoder.engine.work import PreparedReference
from memory3_encoder.metrics import EncoderMetrics
from memory3_encoder.servicer import Loaded
from memory3_encoder.settings import EncoderSettings

_log = get_logger(__name__)


def load(settings: EncoderSettings, metrics: EncoderMetrics) -> Loaded:
    """Load all that answering takes and run it once.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        PluginError: The embedder or the codec cannot be loaded.
        SettingsError: The device or a processor is not there.
    """
    import torch

    from memory3.memory.writer import MemoryWriter
    from memory3.model.affinity import bind_thread, check_cpus
    from memory3.model.placement import check_device, choose_dtype
    from memory3_encoder.engine.model_work import ModelWork, own_embedder

    cpus = check_cpus(settings.cpus, settings.num_threads)
    checkpoint = Checkpoint.open(settings.checkpoint)
    codecs = CodecShelf(settings.codec, checkpoint.codec_file)
    embedder = load_embedder(settings.embedder, checkpoint.embedder_dir)
    torch.set_num_threads(settings.num_threads)
    device = check_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    model = checkpoint.load_model(dtype=dtype, device=settings.device, packed=True)
    limits = Limits(settings.batch_tokens, settings.queue_size, settings.linger_ms / 1000)
    writer = MemoryWriter(model, checkpoint.config)
    work = ModelWork(writer, checkpoint.digest, own_embedder(embedder, dtype))
    engine = EncoderEngine(
        work, embedder, limits, metrics, work.embeds, begin=partial(bind_thread, cpus)
    )
    _log.info(
        "loaded",
        checkpoint=checkpoint.digest,
        embedder=embedder.name,
        codecs=",".join(codecs.names),
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
    )
    loaded = Loaded(checkpoint, engine, codecs)
    warm_up(loaded)
    return loaded


def warm_up(loaded: Loaded) -> None:
    """Run the whole path once at the longest length, so that the first caller does not wait.

    Raises:
        Memory3Error: What the model or the embedder raised.
    """
    config = loaded.checkpoint.config
    tokens = [config.separator_id] * config.memory.reference_length
    references = [PreparedReference(index, tokens, "warm up") for index in range(2)]
    for outcome in loaded.engine.encode(references, loaded.codecs.get("")):
        if outcome.error is not None:
            raise outcome.error
