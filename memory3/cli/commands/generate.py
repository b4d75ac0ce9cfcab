"""``memory3 generate``: continue a prompt, as the text comes."""

from __future__ import annotations

from typing import Annotated

import typer

from memory3.cli import sampling
from memory3.cli.examples import examples
from memory3.cli.options import DecoderOption, Output, OutputOption, TimeoutOption

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Text",
    epilog=examples(
        r'memory3 generate "Question: Where does Ada live?\nAnswer:" -b people --stop "\n"',
        "cat prompt.txt | memory3 generate - --max-tokens 64 --temperature 0.8 --seed 1",
    ),
)
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads stdin.")],
    bank: Annotated[
        str,
        typer.Option(
            "--bank",
            "-b",
            envvar="MEMORY3_BANK",
            metavar="NAME",
            help="The bank to read.",
            show_default="none",
        ),
    ] = "",
    max_tokens: sampling.MaxTokensOption = None,
    temperature: sampling.TemperatureOption = None,
    top_p: sampling.TopPOption = None,
    top_k: sampling.TopKOption = None,
    min_p: sampling.MinPOption = None,
    seed: sampling.SeedOption = None,
    stop: sampling.StopOption = None,
    num_references: sampling.NumReferencesOption = None,
    strict: sampling.StrictOption = False,
    session: sampling.SessionOption = False,
    decoder: DecoderOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Continue a prompt; the text appears as it is made."""
    from memory3.cli.failures import warn
    from memory3.cli.output import print_json
    from memory3.cli.stdin import argument_or_stdin, unescape
    from memory3.client import Client
    from memory3.sdk.answers import Finish, TextDelta

    chosen = sampling.options(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        stop=stop,
        num_references=num_references,
        strict=strict,
        session=session,
    )
    if timeout is not None:
        chosen["timeout"] = timeout
    text = argument_or_stdin(prompt) if prompt == "-" else unescape(prompt)
    with Client(decoder=decoder) as client:
        if output is Output.JSON:
            print_json(client.generate(text, bank, **chosen))
            return
        for event in client.stream(text, bank, **chosen):
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
            elif isinstance(event, Finish):
                print()
                if event.degraded:
                    warn(f"made without some memories: {event.degraded_reason}")
