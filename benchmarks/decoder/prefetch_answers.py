"""What looking early changes in what is said: `python -m benchmarks.decoder.prefetch_answers`.

A bank of made-up biographies. After two questions with their answers a checkpoint that was trained
on such goes on asking and answering, twice over the same bank and with the same seed: with
`MEMORY3_DECODER_PREFETCH_TOKENS` and without. Counted are its own answers that are right, and the
texts that are the same to the last character.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from memory3 import people
from memory3.launcher import LaunchOptions, LocalServices

BANK = "people"
NUM_TOKENS = 192


def measure_answers(
    checkpoint: Path, folder: Path, *, num_people: int, num_texts: int, prefetch_tokens: int
) -> dict[str, Any]:
    """Right answers with prefetch and without, and how many texts are the same.

    Args:
        checkpoint: A checkpoint that was trained on people.
        folder: For the bank and logs.
        num_people: Biographies in the bank.
        num_texts: Texts of 192 tokens each.
        prefetch_tokens: With how many tokens of a chunk the next one's memories are looked for.
    """
    rng = Random(5)
    known = people.sample_people(rng, num_people, split="evaluation")
    bank = [people.biography(rng, person) for person in known]
    asked = known[:num_texts]
    prompts = []
    for person in asked:
        first = people.questions(rng, person, rng.sample(list(person.facts), 2))
        prompts.append("".join(f"{each.prompt}{each.completion}\n" for each in first))
    row: dict[str, Any] = {"prefetch_tokens": prefetch_tokens, "texts": len(asked)}
    texts = {}
    for name, each in (("with", prefetch_tokens), ("without", 0)):
        texts[name] = _texts(checkpoint, folder, bank, prompts, each)
        row[name] = _count(asked, texts[name])
    same = [one == other for one, other in zip(texts["with"], texts["without"], strict=True)]
    return {**row, "same": sum(same)}


def _count(asked: list[people.Person], texts: list[str]) -> dict[str, int]:
    """Answers within the texts, and those of them that are a fact of the person asked about."""
    told = [
        (person, line.removeprefix("Answer:").strip())
        for person, text in zip(asked, texts, strict=True)
        for line in text.splitlines()[:-1]  # the last may have been cut
        if line.startswith("Answer:")
    ]
    right = sum(value in person.facts.values() for person, value in told)
    return {"answers": len(told), "right": right}


def _texts(
    checkpoint: Path, folder: Path, bank: list[str], prompts: list[str], prefetch_tokens: int
) -> list[str]:
    options = LaunchOptions(
        checkpoint=checkpoint,
        data=folder / "data",
        state=folder / f"logs-{prefetch_tokens}",
        environment={
            "MEMORY3_DECODER_RETRIEVAL_TIMEOUT_S": "30",
            "MEMORY3_DECODER_PREFETCH_TOKENS": str(prefetch_tokens),
        },
    )
    with LocalServices(options) as running, running.client() as client:
        if not any(each.name.endswith(BANK) for each in client.list_banks()):
            client.create_bank(BANK)
            client.add_references(BANK, bank)
        return [
            client.generate(
                prompt,
                bank=BANK,
                max_tokens=NUM_TOKENS,
                ignore_eos=True,
                temperature=1.0,
                seed=number,
            ).text
            for number, prompt in enumerate(prompts)
        ]


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder.prefetch_answers")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/people"))
    parser.add_argument("--people", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--texts", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--prefetch-tokens", type=int, default=56, help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure_answers(
            options.checkpoint.resolve(),
            Path(folder),
            num_people=options.people,
            num_texts=options.texts,
            prefetch_tokens=options.prefetch_tokens,
        )
    print(json.dumps(row))


if __name__ == "__main__":
    main()
