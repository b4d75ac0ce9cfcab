"""What the end-to-end tests ask the three services, and how answers are compared.

The checkpoint is untrained: nobody looks at what an answer says, only at whether two ways to it
give the same tokens, read from the same references.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from memory3.client import Client, Document
from memory3.errors import AlreadyExistsError, UnavailableError
from memory3.launcher import LaunchOptions, LocalServices
from memory3.launcher.process import ServiceProcess
from memory3.launcher.services import ORDER
from memory3.people import biography, questions, sample_people
from memory3.sdk.answers import Answer
from memory3.sdk.call import ServiceName

CHUNK_LENGTH = 16
REFERENCES_PER_CHUNK = 3

# Patience for whatever other work the machine has.
PATIENCE_S = 90.0

# An untrained model says one token for ever if nothing keeps it from it.
MODES: dict[str, dict[str, Any]] = {
    "greedy": {"frequency_penalty": 0.5},
    "seeded": {"temperature": 0.9, "top_p": 0.95, "seed": 11, "n": 2, "frequency_penalty": 0.5},
}
MAX_TOKENS = 40


@dataclass(frozen=True)
class Said:
    """One choice of an answer: its tokens, and the references of each chunk."""

    text: str
    token_ids: tuple[int, ...]
    chunk_ids: tuple[tuple[str, ...], ...]


def options(mode: str = "greedy", **changes: Any) -> dict[str, Any]:
    """Options of a generation that waits for its memories and does not end early."""
    given = {"max_tokens": MAX_TOKENS, "ignore_eos": True, "retrieval_timeout": 60.0}
    return {**given, **MODES[mode], **changes}


def said(answer: Answer) -> tuple[Said, ...]:
    """What an answer comes to; it must not be degraded."""
    reasons = [choice.finish.degraded_reason for choice in answer.choices]
    assert reasons == [""] * len(reasons)
    return tuple(
        Said(
            choice.text,
            choice.token_ids,
            tuple(
                tuple(reference.id for reference in chunk.references)
                for chunk in choice.finish.chunks
            ),
        )
        for choice in answer.choices
    )


def say(
    client: Client, prompt: str, bank: str = "", mode: str = "greedy", **changes: Any
) -> tuple[Said, ...]:
    """Generate, and give what was said."""
    return said(client.generate(prompt, bank, **options(mode, **changes)))


def say_all(
    client: Client, prompts: Sequence[str], bank: str = ""
) -> dict[tuple[str, str], tuple[Said, ...]]:
    """What is said to every prompt in every mode."""
    return {(prompt, mode): say(client, prompt, bank, mode) for prompt in prompts for mode in MODES}


def people(count: int, seed: int) -> list[Document]:
    """Biographies of made-up people, one document each, of one to three references."""
    rng = Random(seed)
    return [
        Document(biography(rng, person), source=f"people/{seed}/{number}", title=person.name)
        for number, person in enumerate(sample_people(rng, count))
    ]


def prompts_about(seed: int, count: int = 2) -> list[str]:
    """Questions about some of the people of a seed: one short, the others over several chunks."""
    rng = Random(seed)
    asked = [questions(rng, person)[0].prompt for person in sample_people(rng, count)]
    return [asked[0], *(f"{question}\n{question}" for question in asked[1:])]


def story(number: int, num_sections: int = 3) -> Document:
    """A document of several references, each under a heading of its own."""
    rng = Random(f"story {number}")
    sections = [
        f"## Part {part}\n\n{biography(rng, person, num_facts=3)}\n"
        for part, person in enumerate(sample_people(rng, num_sections))
    ]
    return Document("# Story\n\n" + "\n".join(sections), source=f"stories/{number}")


def launch_options(checkpoint: Path, folder: Path, **environment: str) -> LaunchOptions:
    """Options for services that keep everything under a folder."""
    return LaunchOptions(
        checkpoint=checkpoint,
        data=folder / "data",
        state=folder / "logs",
        cache="local",
        environment=environment,
        grace_s=PATIENCE_S,
    )


def start(services: LocalServices, name: ServiceName, client: Client | None = None) -> None:
    """Start a service that has ended, and wait until the others, and a client, have found it."""
    services.processes[name].start()
    settle(services, client)


def revive(services: LocalServices) -> None:
    """Start every service that has ended, and wait until all have found each other."""
    for name in ORDER:
        if services.processes[name].exit_code is not None:
            services.processes[name].start()
    settle(services)


def settle(services: LocalServices, client: Client | None = None) -> None:
    """Wait until all are ready and connected again, each to the one that it asks.

    A connection that was lost takes up to two seconds to be tried again, a client's as well.
    """
    services.wait_ready(PATIENCE_S)
    with services.client() as fresh:
        until(lambda: _is_connected(client or fresh))


def _is_connected(client: Client) -> bool:
    try:
        client.retriever_info()
        with suppress(AlreadyExistsError):
            client.create_bank("probe", write_policy="lazy")
        return not client.generate("probe", "probe", max_tokens=1).degraded
    except UnavailableError:
        return False


def change_cache(services: LocalServices, cache: str) -> None:
    """Give the retriever another cache: the same data, the same address, a new process."""
    old = services.processes["retriever"]
    assert old.stop(PATIENCE_S) == 0
    command = list(old.command)
    command[command.index("--cache") + 1] = cache
    services.processes["retriever"] = ServiceProcess(
        old.name, command, old.address, old.log_path, services.options.environment
    )
    start(services, "retriever")


def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that nothing announces.

    Raises:
        AssertionError: It has not come in time.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)
