"""How long short answers wait behind long ones, with turns and without.

``python -m benchmarks.decoder.turns``: every slot is taken by a long answer, and short ones come.
In one process, float32, one thread of the model's; the two decoders take turns, so that a busy
machine delays both. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from random import Random

from memory3_decoder.decoder import Decoder
from memory3_decoder.events import Finished, Usage
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from benchmarks.decoder.asking import plain_request
from benchmarks.decoder.shapes import SHAPES, VOCABULARY, random_checkpoint

_NUM_SLOTS = 4
_NUM_IN = 64
_NUM_LONG_OUT = 1024
_NUM_SHORT = 6
_NUM_SHORT_OUT = 16


async def measure_turns(
    shape: str, folder: Path, num_rounds: int, turn_tokens: int
) -> dict[str, float]:
    """Medians over rounds of what short and long answers take with turns, of that without."""
    checkpoint = random_checkpoint(folder, shape)
    most = min(VOCABULARY, checkpoint.tokenizer.get_vocab_size())
    rounds = []
    for number in range(num_rounds):
        taken = {}
        ways = (("turns", turn_tokens), ("none", 0))
        for name, length in ways if number % 2 else reversed(ways):
            settings = DecoderSettings.load(
                checkpoint=checkpoint.path,
                dtype="float32",
                num_slots=_NUM_SLOTS,
                num_threads=1,
                prefix_cache_bytes=0,
                turn_tokens=length,
            )
            decoder = await Decoder.load(settings, DecoderMetrics(CollectorRegistry()))
            taken[name] = await _round(decoder, Random(number), most)
            await decoder.close()
        rounds.append(taken)
    return {
        f"{what}_ratio": round(
            statistics.median(each["turns"][what] / each["none"][what] for each in rounds), 3
        )
        for what in ("short_first_token_s", "long_s", "all_s", "processor_s")
    }


async def _round(decoder: Decoder, rng: Random, most: int) -> dict[str, float]:
    def ask(max_tokens: int) -> asyncio.Task[Usage]:
        prompt = tuple(rng.randrange(10, most) for _ in range(_NUM_IN))
        return asyncio.create_task(_usage(decoder, prompt, max_tokens))

    started, worked = time.perf_counter(), time.process_time()
    long = [ask(_NUM_LONG_OUT) for _ in range(_NUM_SLOTS)]
    while decoder.engine.num_running < _NUM_SLOTS:
        await asyncio.sleep(0.01)
    short = await asyncio.gather(*(ask(_NUM_SHORT_OUT) for _ in range(_NUM_SHORT)))
    ended = await asyncio.gather(*long)
    return {
        "short_first_token_s": statistics.fmean(each.time_to_first_token_s for each in short),
        "long_s": statistics.fmean(each.total_time_s for each in ended),
        "all_s": time.perf_counter() - started,
        "processor_s": time.process_time() - worked,
    }


async def _usage(decoder: Decoder, prompt: tuple[int, ...], max_tokens: int) -> Usage:
    with decoder.engine.generate(plain_request(prompt, max_tokens)) as stream:
        async for event in stream:
            if isinstance(event, Finished):
                return event.usage
    raise AssertionError("an answer ended without its end")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="100m")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each decoder")
    parser.add_argument("--turn-tokens", type=int, default=128, help="tokens of a turn")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = asyncio.run(
            measure_turns(wanted.shape, Path(folder), wanted.rounds, wanted.turn_tokens)
        )
    print(json.dumps({"turn_tokens": wanted.turn_tokens, "rounds": wanted.rounds, **measured}))


if __name__ == "__main__":
    main()
