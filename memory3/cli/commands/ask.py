"""``memory3 ask``: a question, its answer, and the memories that the answer was read from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli import sampling
from memory3.cli.examples import examples
from memory3.cli.options import (
    DEFAULT_BANK,
    BankOption,
    DecoderOption,
    Output,
    OutputOption,
    TimeoutOption,
)

if TYPE_CHECKING:
    from memory3.sdk.answers import Answer

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Text",
    epilog=examples(
        'memory3 ask "Where does Ada live?" --show-memories',
        'memory3 ask -b people -o json "Where does Ada live?"',
    ),
)
def ask(
    question: Annotated[str, typer.Argument(help="The question; - reads stdin.")],
    bank: BankOption = DEFAULT_BANK,
    show_memories: Annotated[
        bool,
        typer.Option("--show-memories", "-m", help="Also list the references that were read."),
    ] = False,
    max_tokens: sampling.MaxTokensOption = None,
    temperature: sampling.TemperatureOption = None,
    top_p: sampling.TopPOption = None,
    top_k: sampling.TopKOption = None,
    min_p: sampling.MinPOption = None,
    seed: sampling.SeedOption = None,
    num_references: sampling.NumReferencesOption = None,
    strict: sampling.StrictOption = False,
    session: sampling.SessionOption = False,
    decoder: DecoderOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a question of a bank; the prompt is "Question: …", "Answer:", the answer one line."""
    from memory3.cli.failures import warn
    from memory3.cli.output import print_json
    from memory3.cli.stdin import needed_text
    from memory3.client import Client

    chosen = sampling.options(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        stop=None,
        num_references=num_references,
        strict=strict,
        session=session,
    )
    if timeout is not None:
        chosen["timeout"] = timeout
    if show_memories or output is Output.JSON:
        chosen["report"] = chosen["with_references"] = True
    text = needed_text(question, "question")
    with Client(decoder=decoder) as client:
        answer = client.ask(text, bank, **chosen)
    if answer.degraded:
        warn(f"made without some memories: {answer.choices[0].finish.degraded_reason}")
    if output is Output.JSON:
        print_json(answer)
        return
    print(answer.text)
    if show_memories:
        _print_memories(answer)


def _print_memories(answer: Answer) -> None:
    from memory3.cli.output import print_table, snippet

    print()
    print_table(
        [">chunk", ">rank", ">score", ">attention", "source", "text"],
        (
            (
                chunk.chunk,
                rank,
                attached.score,
                attached.attention_mass,
                attached.reference.source if attached.reference is not None else attached.id,
                snippet(attached.reference.text) if attached.reference is not None else "",
            )
            for chunk in answer.chunks
            for rank, attached in enumerate(chunk.references, 1)
        ),
        title="Memories read",
    )
