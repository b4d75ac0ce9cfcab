"""F9: services and banks of two checkpoints in every mixture: what does not fit is refused."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest

from memory3.checkpoint import Checkpoint
from memory3.client import Client
from memory3.errors import CheckpointMismatchError
from memory3.launcher import LaunchOptions, LocalServices
from memory3.sdk.call import ServiceName
from memory3.testing.checkpoints import tiny_checkpoint
from tests.e2e.chain import (
    CHUNK_LENGTH,
    PATIENCE_S,
    REFERENCES_PER_CHUNK,
    Said,
    people,
    prompts_about,
    say,
)
from tests.faults.campaign import Campaign

pytestmark = pytest.mark.e2e

VERSIONS = ("old", "new")
SERVICES: tuple[ServiceName, ...] = ("decoder", "retriever", "encoder")
# Every mixture of decoder, retriever, encoder and bank; the pure ones and the most likely first.
MIXTURES = sorted(product(VERSIONS, repeat=4), key=lambda each: (len({*each}), each))
PROMPT = prompts_about(5)[0]


def services(
    folder: Path, checkpoints: dict[str, Checkpoint], versions: dict[ServiceName, str]
) -> LocalServices:
    """The three services over one folder of data, each with its own checkpoint."""
    return LocalServices(
        LaunchOptions(
            checkpoint=checkpoints["old"].path,
            data=folder / "data",
            state=folder / "logs",
            cache="local",
            # The later of two options wins.
            arguments={
                name: ["--checkpoint", str(checkpoints[version].path)]
                for name, version in versions.items()
            },
            grace_s=PATIENCE_S,
        )
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Two checkpoints of the same shape, as before and after more training."""
    folder = tmp_path_factory.mktemp("f9")
    return {
        version: tiny_checkpoint(
            folder / version,
            seed=seed,
            chunk_length=CHUNK_LENGTH,
            references_per_chunk=REFERENCES_PER_CHUNK,
        )
        for seed, version in enumerate(VERSIONS)
    }


@pytest.fixture(scope="module")
def filled(
    checkpoints: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, tuple[Said, ...]]]:
    """A folder with a bank of each version, and what each pure stack says."""
    folder = tmp_path_factory.mktemp("f9-data")
    answers = {}
    for version in VERSIONS:
        pure = dict.fromkeys(SERVICES, version)
        with services(folder, checkpoints, pure) as running, running.client() as client:
            client.create_bank(version)
            client.add(version, people(10, 5))
            answers[version] = say(client, PROMPT, version)
    assert answers["old"] != answers["new"]
    return folder, answers


def test_f9_what_does_not_fit_is_refused_and_never_mixed(
    checkpoints: dict[str, Checkpoint],
    filled: tuple[Path, dict[str, tuple[Said, ...]]],
    tmp_path: Path,
    campaign: Campaign,
) -> None:
    """A pure mixture answers as ever; any other is refused, naming both checkpoints."""
    folder, answers = filled

    def case(seed: int) -> None:
        *versions, bank = MIXTURES[seed]
        copied = tmp_path / str(seed)
        shutil.copytree(folder / "data", copied / "data")
        mixture = dict(zip(SERVICES, versions, strict=True))
        with services(copied, checkpoints, mixture) as running, running.client() as client:
            if {*versions} == {bank}:
                assert say(client, PROMPT, bank) == answers[bank]
            else:
                _is_refused(client, bank, checkpoints)
        shutil.rmtree(copied)

    campaign.run("F9", case, full=len(MIXTURES), short=3)


def _is_refused(client: Client, bank: str, checkpoints: dict[str, Checkpoint]) -> None:
    with pytest.raises(CheckpointMismatchError) as raised:
        client.generate(PROMPT, bank, retrieval_timeout=60.0)
    assert raised.value.code == "FAILED_PRECONDITION"
    assert raised.value.remedy
    told = f"{raised.value.message} {raised.value.metadata}"
    assert any(checkpoint.digest[:12] in told for checkpoint in checkpoints.values())
