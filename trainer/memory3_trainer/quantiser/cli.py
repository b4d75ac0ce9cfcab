"""``python -m memory3_trainer quantiser``: train the codebooks of a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from memory3_trainer.quantiser.run import QuantiserReport

QUANTISER_EXAMPLES = examples(
    "python -m memory3_trainer quantiser checkpoints/small --texts texts.jsonl.xz --out DIR"
)


def quantiser(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The final one.")],
    texts: Annotated[
        list[Path],
        typer.Option(
            "--texts",
            help="Texts like those of the banks to come, as of `data`; may be given repeatedly.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the new checkpoint.", show_default="in place of the old"),
    ] = None,
    num_references: Annotated[
        int | None,
        typer.Option(min=1, help="References to learn from.", show_default="1024 or more"),
    ] = None,
    coarse_bits: Annotated[
        int | None, typer.Option(help="Bits of each half.", show_default="by the head dim")
    ] = None,
    num_parts: Annotated[
        int | None, typer.Option(help="Parts of what is left.", show_default="by the head dim")
    ] = None,
    fine_bits: Annotated[
        int | None, typer.Option(help="Bits of each part.", show_default="by the head dim")
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="One quantiser for each layer.")
    ] = False,
    text_field: Annotated[str, typer.Option(help="Field that holds the text.")] = "text",
    device: Annotated[str, typer.Option(help="Where memories are written: cpu, cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Which references and vectors are drawn.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train the codec opq for a checkpoint and store its codebooks in it.

    The digest changes: banks of the old checkpoint have to be built again.
    """
    from memory3.checkpoint import Checkpoint
    from memory3.cli.failures import tell
    from memory3.cli.output import emit
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3.errors import Memory3Error
    from memory3_trainer.quantiser.run import train_quantiser
    from memory3_trainer.quantiser.settings import QuantiserSettings

    target = out or checkpoint
    try:
        opened = Checkpoint.open(checkpoint)
        settings = QuantiserSettings(
            head_dim=opened.config.head_dim,
            coarse_bits=coarse_bits,
            num_parts=num_parts,
            fine_bits=fine_bits,
            per_layer=per_layer,
            seed=seed,
        )
        with progress_bar() as show:
            report = train_quantiser(
                opened,
                iter_documents(texts, text_field=text_field),
                target,
                settings,
                num_references=num_references,
                device=device,
                provenance={"texts": [path.name for path in texts]},
                progress=show,
            )
    except Memory3Error as error:
        tell(error)
        raise typer.Exit(1) from error
    place = {"out": str(target)}
    emit(output, {**place, **asdict(report)}, {**place, **_facts(report)})


def _facts(report: QuantiserReport) -> dict[str, object]:
    """The report in one line for each figure."""
    facts: dict[str, object] = {}
    for name, value in asdict(report).items():
        if isinstance(value, dict):
            for codec, part in value.items():
                named = part.items() if isinstance(part, dict) else (("", part),)
                facts |= {f"{name} {codec} {kind}".rstrip(): figure for kind, figure in named}
        else:
            facts[name] = value
    return facts
