"""Plain decoding, no memories: this project's model against transformers and llama.cpp.

One thread each, the same shape, random weights; greedy, 128 tokens in. llama.cpp takes part where
its Python package and gguf are installed (`pip install llama-cpp-python gguf`): they are built from
source, so nothing here depends on them.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory3_decoder.settings import DecoderSettings

from benchmarks.decoder.shapes import VOCABULARY, Shape, random_model
from benchmarks.decoder.sizes import Sizes
from memory3.model.cache import SlotCache
from memory3.model.packing import pack

BATCHES = (1, 8)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# As a decoder comes.
_ROW_BYTES: int = DecoderSettings.model_fields["row_matrix_bytes"].default

# Seconds for one step of a batch.
Step = Callable[[], float]


@torch.inference_mode()
def measure_plain(shape: Shape, name: str, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Tokens a second of each, ratios, and the share of the memory's speed, in turns."""
    figures: dict[str, Any] = {}
    num_weights = sum(p.numel() for p in random_model(name).parameters())
    bandwidth = _bandwidth()
    for dtype in DTYPES:
        for size in BATCHES:
            ways: dict[str, Step] = {
                "memory3": _ours(name, DTYPES[dtype], size, sizes),
                "transformers": _transformers(shape, DTYPES[dtype], size, sizes),
            }
            if size == 1 and _has_llama_cpp():
                ways["llama_cpp"] = _llama_cpp(shape, dtype, folder, sizes)
            took: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(sizes.rounds):
                for way, step in ways.items():
                    took[way].append(step())
            median = {way: statistics.median(each) for way, each in took.items()}
            row = {way: size / seconds for way, seconds in median.items()}
            ratios = {
                f"vs_{way}": median[way] / median["memory3"] for way in median if way != "memory3"
            }
            # Every weight once, and the keys and values of every sequence, halfway through.
            context = size * (sizes.num_in + sizes.num_steps / 2)
            num_bytes = DTYPES[dtype].itemsize * (num_weights + context * _per_token(shape))
            figures[f"{dtype}_b{size}"] = {
                "tokens_per_second": row,
                **ratios,
                "bytes_per_token": num_bytes / size,
                "share_of_bandwidth": {
                    way: num_bytes / seconds / bandwidth for way, seconds in median.items()
                },
            }
    figures["weights"], figures["read_bytes_per_second"] = num_weights, bandwidth
    return figures


def _per_token(shape: Shape) -> int:
    """Numbers that keys and values of a token have."""
    return 2 * shape.num_layers * shape.num_kv_heads * 64


def _ours(name: str, dtype: torch.dtype, size: int, sizes: Sizes) -> Step:
    model = random_model(name).to(dtype)
    pack(model, row_bytes=_ROW_BYTES)
    cache = SlotCache(model, num_slots=size, context_length=sizes.num_in + 2 * sizes.num_steps)
    slots = torch.arange(size)

    def steps() -> float:
        for slot in range(size):
            cache.release(slot)
            model.prefill(cache, slot, torch.arange(10, 10 + sizes.num_in))
        tokens = torch.full((size,), 7)
        started = time.perf_counter()
        for _ in range(sizes.num_steps):
            tokens = model.decode(cache, slots, tokens).logits.argmax(-1)
        return (time.perf_counter() - started) / sizes.num_steps

    steps()
    return steps


def _transformers(shape: Shape, dtype: torch.dtype, size: int, sizes: Sizes) -> Step:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=64,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(dtype).eval()
    prompt = torch.arange(10, 10 + sizes.num_in).expand(size, -1)

    def generate(count: int) -> float:
        started = time.perf_counter()
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            min_new_tokens=count,
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - started

    generate(2)
    # What two tokens take is the prefill and one step.
    return lambda: (generate(sizes.num_steps + 2) - generate(2)) / sizes.num_steps


def _has_llama_cpp() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("llama_cpp", "gguf"))


def _llama_cpp(shape: Shape, dtype: str, folder: Path, sizes: Sizes) -> Step:
    from llama_cpp import Llama

    path = folder / f"{shape.width}-{dtype}.gguf"
    if not path.exists():
        _write_gguf(path, shape, dtype)
    model = Llama(str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)

    def steps() -> float:
        model.reset()
        model.eval(list(range(10, 10 + sizes.num_in)))
        started = time.perf_counter()
        for number in range(sizes.num_steps):
            model.eval([20 + number])
        return (time.perf_counter() - started) / sizes.num_steps

    steps()
    return steps


def _write_gguf(path: Path, shape: Shape, dtype: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.mlp_width)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    names = [b"<unk>", b"<s>", b"</s>", *(b"<%d>" % n for n in range(3, VOCABULARY))]
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([1] * VOCABULARY)
    rng = np.random.default_rng(0)

    def add(name: str, rows: int, columns: int) -> None:
        weight = rng.standard_normal((rows, columns), dtype=np.float32) * columns**-0.5
        if dtype == "float32":
            writer.add_tensor(name, weight)
        else:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)

    ones, pairs = np.ones(shape.width, dtype=np.float32), shape.num_kv_heads * 64
    add("token_embd.weight", VOCABULARY, shape.width)
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(shape.num_layers):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", ones)
        writer.add_tensor(block + "ffn_norm.weight", ones)
        add(block + "attn_q.weight", shape.num_heads * 64, shape.width)
        add(block + "attn_k.weight", pairs, shape.width)
        add(block + "attn_v.weight", pairs, shape.width)
        add(block + "attn_output.weight", shape.width, shape.num_heads * 64)
        add(block + "ffn_gate.weight", shape.mlp_width, shape.width)
        add(block + "ffn_up.weight", shape.mlp_width, shape.width)
        add(block + "ffn_down.weight", shape.width, shape.mlp_width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _bandwidth() -> float:
    """Bytes a second that one thread reads from main memory."""
    data = torch.ones(64 << 20)  # 256 MiB, more than any cache

    def read() -> float:
        started = time.perf_counter()
        data.sum()
        return time.perf_counter() - started

    return data.nbytes / min(read() for _ in range(7))
