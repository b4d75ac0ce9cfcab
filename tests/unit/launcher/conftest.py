"""Stand-ins for the three services, found by the launcher under the names of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memory3.launcher import LaunchOptions, LocalServices

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """The environment in which ``python -m memory3_encoder`` and the others are stand-ins."""
    for name in ("encoder", "retriever", "decoder", "gateway"):
        package = tmp_path / "stand_ins" / f"memory3_{name}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(
            f"from tests.unit.launcher.stand_in import main\nmain({name!r})\n"
        )
    return {"PYTHONPATH": f"{tmp_path / 'stand_ins'}:{ROOT}"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder that looks like a checkpoint to the launcher, which does not read it."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def make_services(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> Iterator[Callable[..., LocalServices]]:
    """Makes launchers of stand-ins; whatever is left running is ended after the test."""
    made: list[LocalServices] = []

    def make(
        behaviour: dict[str, str] | None = None,
        variables: dict[str, str] | None = None,
        **options: object,
    ) -> LocalServices:
        told = {f"STAND_IN_{k.upper()}": v for k, v in (behaviour or {}).items()}
        services = LocalServices(
            LaunchOptions(
                checkpoint=checkpoint,
                data=tmp_path / "data",
                state=tmp_path / "state",
                environment={**stand_ins, **told, **(variables or {})},
                **options,  # type: ignore[arg-type]
            )
        )
        made.append(services)
        return services

    yield make
    for services in made:
        services.kill()
