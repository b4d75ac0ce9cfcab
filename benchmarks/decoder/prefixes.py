"""What a shared system prompt costs each request, with the prefix store and without.

``python -m benchmarks.decoder.prefixes``: 512 tokens that all requests begin with and a question of
each one's own, in one process, float32, one thread of the model's. The two decoders take turns, so
that a busy machine delays both. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from random import Random

from memory3_decoder.decoder import Decoder
from memory3_decoder.events import Finished
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from benchmarks.decoder.asking import plain_request
from benchmarks.decoder.shapes import SHAPES, VOCABULARY, random_checkpoint

_NUM_SHARED = 512
_NUM_OWN = 40
_STORE_BYTES = 64 * 1024 * 1024


async def measure_prefixes(shape: str, folder: Path, num_rounds: int) -> dict[str, float]:
    """Medians of the milliseconds to the first token, and of the ratio of each round."""
    checkpoint = random_checkpoint(folder, shape)
    decoders = {
        name: await Decoder.load(
            DecoderSettings.load(
                checkpoint=checkpoint.path,
                dtype="float32",
                num_slots=1,
                num_threads=1,
                prefix_cache_bytes=num_bytes,
            ),
            DecoderMetrics(CollectorRegistry()),
        )
        for name, num_bytes in (("with", _STORE_BYTES), ("without", 0))
    }
    # Ids of the tokenizer's own, so that the text of the answer can be told.
    most = min(VOCABULARY, checkpoint.tokenizer.get_vocab_size())
    rng, times = Random(0), {name: list[float]() for name in decoders}
    shared = [rng.randrange(10, most) for _ in range(_NUM_SHARED)]
    for number in range(num_rounds + 1):
        prompt = (*shared, *(rng.randrange(10, most) for _ in range(_NUM_OWN)))
        for name, decoder in decoders.items():
            seconds = await _first_token_s(decoder, prompt)
            if number:  # the first reads for all that follow
                times[name].append(seconds)
    for decoder in decoders.values():
        await decoder.close()
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    return {
        **{f"{name}_ms": round(1000 * statistics.median(each), 1) for name, each in times.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_least": round(min(ratios), 3),
        "ratio_most": round(max(ratios), 3),
    }


async def _first_token_s(decoder: Decoder, prompt: tuple[int, ...]) -> float:
    wanted = plain_request(prompt, 1)
    with decoder.engine.generate(wanted) as stream:
        async for event in stream:
            if isinstance(event, Finished):
                return event.usage.time_to_first_token_s
    raise AssertionError("an answer ended without its end")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="100m")
    parser.add_argument("--rounds", type=int, default=9, help="requests of each decoder")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = asyncio.run(measure_prefixes(wanted.shape, Path(folder), wanted.rounds))
    print(json.dumps({"shape": wanted.shape, "rounds": wanted.rounds, **measured}))


if __name__ == "__main__":
    main()
