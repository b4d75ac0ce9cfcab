"""``memory3 status``: whether the three services answer, how they are, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from memory3.cli.examples import examples
from memory3.cli.options import (
    DecoderOption,
    EncoderOption,
    Output,
    OutputOption,
    RetrieverOption,
)

if TYPE_CHECKING:
    from memory3.cli.states import State
    from memory3.sdk.call import ServiceName

app = typer.Typer(add_completion=False)

EXIT_NOT_READY = 1
EXIT_APART = 3


@app.command(
    rich_help_panel="Services", epilog=examples("memory3 status", "memory3 status -o json")
)
def status(
    decoder: DecoderOption = None,
    retriever: RetrieverOption = None,
    encoder: EncoderOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the three services: health, checkpoint, load, and what to do next.

    Exit 0: all are ready and belong together. 1: one is not ready. 3: all are
    ready, with different checkpoints. Queues, cache and lag are also read from
    the metrics ports where they are known: MEMORY3_METRICS_DECODER,
    MEMORY3_METRICS_RETRIEVER and MEMORY3_METRICS_ENCODER name them.
    """
    import sys

    from memory3.cli.advice import advise
    from memory3.cli.output import print_json, print_table
    from memory3.cli.states import look
    from memory3.sdk.addresses import address_of

    given: dict[ServiceName, str | None] = {
        "decoder": decoder,
        "retriever": retriever,
        "encoder": encoder,
    }
    states = [look(name, address_of(name, address)) for name, address in given.items()]
    apart = advise(states)
    if output is Output.JSON:
        print_json(states)
    else:
        print_table(
            ["service", "address", "health", "version", "checkpoint", "details"],
            (_row(state) for state in states),
        )
        for state in states:
            for text in state.next:
                print(f"next: {state.service}: {text}", file=sys.stderr)
    if any(state.health != "ready" for state in states):
        raise typer.Exit(EXIT_NOT_READY)
    if apart:
        raise typer.Exit(EXIT_APART)


def _row(state: State) -> tuple[str, ...]:
    info = state.info or {}
    return (
        state.service,
        state.address,
        state.health,
        info.get("version", ""),
        info["checkpoint"]["digest"][:12] if info else "",
        _details(info, state.metrics or {}),
    )


def _details(info: dict[str, Any], metrics: dict[str, float | None]) -> str:
    names = {
        "num_running": "running",
        "num_waiting": "waiting",
        "num_slots": "slots",
        "dtype": "dtype",
        "num_banks": "banks",
        "cache": "cache",
        "cache_hits": "hits",
        "cache_misses": "misses",
        "embedder": "embedder",
        "default_codec": "codec",
    }
    told = [f"{label}={info[name]}" for name, label in names.items() if name in info]
    counted = {
        "num_waiting_encode": "to-encode",
        "num_waiting_embed": "to-embed",
        "num_degraded": "degraded",
        "replica_lag_s": "lag-s",
        "banks_damaged": "damaged",
        "canary_mismatches": "mismatches",
    }
    for name, label in counted.items():
        value = metrics.get(name)
        if value is not None:
            told.append(f"{label}={value:g}")
    if (share := metrics.get("cache_hit_share")) is not None:
        told.append(f"hit-share={share:.2f}")
    return " ".join(told)
