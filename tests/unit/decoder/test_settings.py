"""What the decoder can be told, and where it runs."""

import re
from pathlib import Path

import pytest
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from memory3.errors import CheckpointMissingFileError, SettingsError
from memory3.model.eight_bits import Int8Linear
from tests.unit.decoder.calls import ask
from tests.unit.decoder.conftest import MakeDecoder
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever


def test_defaults() -> None:
    """The documented defaults, given nothing but the checkpoint."""
    settings = DecoderSettings.load(checkpoint="somewhere")
    assert (settings.port, settings.num_slots, settings.num_threads) == (7300, 8, 1)
    assert (settings.retriever, settings.retrieval_timeout_s, settings.dtype) == ("", 0.5, "auto")


def test_every_setting_and_metric_is_documented(root: Path) -> None:
    """The README's tables name each variable and each metric, and none that does not exist."""
    text = (root / "services" / "decoder" / "README.md").read_text()
    variables = {DecoderSettings.variable(name) for name in DecoderSettings.model_fields}
    assert set(re.findall(r"MEMORY3_DECODER_[A-Z_]+", text)) == variables
    registry = CollectorRegistry()
    DecoderMetrics(registry)
    metrics = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }
    named = set(re.findall(r"`(memory3_[a-z0-9_]+)", text))
    assert named == metrics


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEMORY3_DECODER_* sets what no option sets."""
    monkeypatch.setenv("MEMORY3_DECODER_CHECKPOINT", "somewhere")
    monkeypatch.setenv("MEMORY3_DECODER_NUM_SLOTS", "3")
    monkeypatch.setenv("MEMORY3_DECODER_RETRIEVER", "127.0.0.1:1")
    settings = DecoderSettings.load(num_slots=2)
    assert (settings.checkpoint, settings.num_slots) == (Path("somewhere"), 2)
    assert settings.retriever == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_slots", 0), ("queue_size", -1), ("context_length", 1), ("dtype", "float16"),
        ("num_threads", 0), ("retrieval_timeout_s", 0), ("memory_cache_bytes", -1),
        ("memory_cache_max_age_s", 0), ("port", 70000),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(field: str, value: object) -> None:
    """The error names the setting and its variable."""
    with pytest.raises(SettingsError) as raised:
        DecoderSettings.load(**{"checkpoint": "somewhere", field: value})
    assert raised.value.field == field
    assert f"MEMORY3_DECODER_{field.upper()}" in str(raised.value)


async def test_weights_of_eight_bits_generate(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """In bfloat16, with memories, and the same twice."""
    decoder = await make_decoder(weights="int8", dtype="auto")
    assert decoder.dtype == "bfloat16"
    model = decoder._runner._lane.worker.model
    assert any(isinstance(each, Int8Linear) for each in model.modules())
    first, again = [await ask(decoder, "Who is it ?", bank=BANK, max_tokens=20) for _ in range(2)]
    assert first.tokens == again.tokens
    assert all(first.chunk_ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retriever", "nowhere"),
        ("context_length", 513),
        ("device", "abacus"),
        ("prefetch_tokens", 1),
        ("prefetch_tokens", 16),
        ("cpus", "99999"),
        ("weights", "int8"),  # with the float32 of all these decoders
    ],
)
async def test_a_setting_that_does_not_fit_is_named(
    make_decoder: MakeDecoder, field: str, value: object
) -> None:
    """Loading refuses what the checkpoint or the machine does not allow."""
    with pytest.raises(SettingsError) as raised:
        await make_decoder(**{field: value})
    assert raised.value.field == field


async def test_a_missing_checkpoint_is_named(make_decoder: MakeDecoder, tmp_path: Path) -> None:
    """Loading from nowhere is a typed error."""
    with pytest.raises(CheckpointMissingFileError):
        await make_decoder(checkpoint=tmp_path / "none")


async def test_a_shorter_window_is_obeyed(make_decoder: MakeDecoder) -> None:
    """The setting replaces the checkpoint's context length."""
    decoder = await make_decoder(context_length=40)
    assert decoder.context_length == 40


async def test_bfloat16_generates(make_decoder: MakeDecoder) -> None:
    """The other number format runs the whole path, memories included."""
    from tests.unit.decoder.calls import ask
    from tests.unit.decoder.scripted_retriever import BANK

    decoder = await make_decoder(dtype="bfloat16")
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=20)
    assert (decoder.dtype, len(answer.tokens)) == ("bfloat16", 20)
    assert answer.end.degraded_reason == ""
