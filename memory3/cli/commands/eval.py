"""``memory3 eval``: what a checkpoint answers with and without memories, measured in-process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.evaluation import options as given
from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Measure what a checkpoint answers with memories, without, and with text.",
    rich_help_panel="Information",
    epilog=examples(
        "memory3 eval qa --passages p.jsonl --questions q.jsonl",
        "memory3 eval perplexity --texts valid.jsonl.xz",
    ),
)


@app.command(
    epilog=examples(
        "memory3 eval qa --passages p.jsonl --questions q.jsonl",
        "memory3 eval qa --passages p.jsonl --questions q.jsonl --distractors wiki.jsonl.xz "
        "--num-distractors 10000 --codec int8 -o json",
    )
)
def qa(
    passages: given.PassagesOption,
    questions: given.QuestionsOption,
    checkpoint: given.CheckpointOption = None,
    distractors: given.DistractorsOption = None,
    num_distractors: given.NumDistractorsOption = None,
    conditions: given.ConditionsOption = "none,retrieved,gold,text,gold-text,wrong",
    codec: given.CodecOption = "raw",
    num_references: given.NumReferencesOption = None,
    embedder: given.EmbedderOption = None,
    index: given.IndexOption = "exact",
    template: given.TemplateOption = None,
    max_tokens: given.MaxTokensOption = 32,
    num_questions: given.NumQuestionsOption = None,
    batch_size: given.BatchSizeOption = 32,
    with_loss: Annotated[
        bool, typer.Option("--loss", help="Also measure the loss of the first answer.")
    ] = False,
    seed: given.SeedOption = 0,
    dtype: given.DtypeOption = given.Dtype.FLOAT32,
    device: given.DeviceOption = "cpu",
    plot: given.PlotOption = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every answer there, as JSON lines."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask questions over passages in every condition: exact match, F1, recall.

    none: no memory. retrieved: references found with the question, as
    memories. text: the same references in the prompt. gold: references of the
    question's own passage, as memories. gold-text: the same in the prompt.
    wrong: references of another passage. Scores are shares from 0 to 1.
    """
    from memory3.cli.evaluation.run import run_qa

    run_qa(
        given.Loading(checkpoint, codec, embedder, dtype, device),
        given.Files(passages, questions, distractors, num_distractors, num_questions),
        given.Asking(num_references, template, max_tokens, batch_size, index, seed, with_loss),
        conditions=given.split(conditions),
        plot=plot,
        predictions=predictions,
        output=output,
    )


@app.command(epilog=examples("memory3 eval recall --passages p.jsonl --questions q.jsonl"))
def recall(
    passages: given.PassagesOption,
    questions: given.QuestionsOption,
    checkpoint: given.CheckpointOption = None,
    distractors: given.DistractorsOption = None,
    num_distractors: given.NumDistractorsOption = None,
    embedder: given.EmbedderOption = None,
    index: given.IndexOption = "exact",
    num_questions: given.NumQuestionsOption = None,
    seed: given.SeedOption = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Search only: is the question's passage, or an answer, among the first 1, 5, 20 found?"""
    from memory3.cli.evaluation.run import run_recall

    run_recall(
        given.Loading(checkpoint, "raw", embedder, given.Dtype.FLOAT32, "cpu"),
        given.Files(passages, questions, distractors, num_distractors, num_questions),
        given.Asking(index=index, seed=seed),
        output=output,
    )


@app.command(
    epilog=examples(
        "memory3 eval choice --questions mc.jsonl",
        "memory3 eval choice --questions mc.jsonl --passages p.jsonl "
        "--conditions none,retrieved,text",
    )
)
def choice(
    questions: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Lines of id, question, choices[], answer (an index, or all right ones).",
        ),
    ],
    checkpoint: given.CheckpointOption = None,
    passages: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lines of id, title, text to read from."),
    ] = None,
    distractors: given.DistractorsOption = None,
    num_distractors: given.NumDistractorsOption = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Conditions as of `eval qa`.",
            show_default="none; with passages none,retrieved,text",
        ),
    ] = None,
    codec: given.CodecOption = "raw",
    num_references: given.NumReferencesOption = None,
    embedder: given.EmbedderOption = None,
    index: given.IndexOption = "exact",
    template: given.TemplateOption = None,
    seed: given.SeedOption = 0,
    dtype: given.DtypeOption = given.Dtype.FLOAT32,
    device: given.DeviceOption = "cpu",
    plot: given.PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Choose the likeliest answer: accuracy, plain and by length, and MC2.

    For knowledge tests and hallucination sets. The question alone finds
    memories, never a choice.
    """
    from memory3.cli.evaluation.run import run_choice

    default = "none,retrieved,text" if passages or distractors else "none"
    run_choice(
        given.Loading(checkpoint, codec, embedder, dtype, device),
        given.Files(passages, questions, distractors, num_distractors),
        given.Asking(num_references, template, index=index, seed=seed),
        conditions=given.split(default if conditions is None else conditions),
        plot=plot,
        output=output,
    )


@app.command(
    epilog=examples(
        "memory3 eval perplexity --texts valid.jsonl.xz --max-tokens 100000",
        "memory3 eval perplexity --texts valid.jsonl.xz --references wiki.jsonl.xz "
        "--num-bank-references 20000",
    )
)
def perplexity(
    texts: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Text to read: .jsonl(.xz), .parquet, .txt, a folder."),
    ],
    references: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Texts to remember; without, no memory is measured."),
    ] = None,
    num_bank_references: Annotated[
        int | None, typer.Option(min=1, help="At most so many references, drawn by the seed.")
    ] = None,
    checkpoint: given.CheckpointOption = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a window.", show_default="the context length"),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    codec: given.CodecOption = "raw",
    num_references: given.NumReferencesOption = None,
    embedder: given.EmbedderOption = None,
    index: given.IndexOption = "exact",
    seed: given.SeedOption = 0,
    dtype: given.DtypeOption = given.Dtype.FLOAT32,
    device: given.DeviceOption = "cpu",
    plot: given.PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Measure the loss of texts, without and with memories found by the chunk before.

    References that repeat the text are left out (overlap above 2/3).
    """
    from memory3.cli.evaluation.run import run_perplexity

    run_perplexity(
        given.Loading(checkpoint, codec, embedder, dtype, device),
        given.Texts(texts, references or [], num_bank_references, window, max_tokens),
        given.Asking(num_references, index=index, seed=seed),
        plot=plot,
        output=output,
    )


@app.command(
    epilog=examples(
        "memory3 eval ablation --passages p.jsonl --questions q.jsonl --plot ablation.png",
        "memory3 eval ablation --passages p.jsonl --questions q.jsonl --factors selection "
        "--selectors attention,key-norm --tokens-kept 4,8,16",
    )
)
def ablation(
    passages: given.PassagesOption,
    questions: given.QuestionsOption,
    checkpoint: given.CheckpointOption = None,
    distractors: given.DistractorsOption = None,
    num_distractors: given.NumDistractorsOption = None,
    factors: Annotated[
        str, typer.Option(metavar="NAMES", help="What is swept.")
    ] = "selection,references,layers,codec",
    selectors: Annotated[str, typer.Option(metavar="NAMES", show_default="all installed")] = "",
    tokens_kept: Annotated[str, typer.Option(metavar="NUMBERS")] = "2,4,8,16,32,64,128",
    references: Annotated[str, typer.Option(metavar="NUMBERS")] = "1,2,3,5,7,10",
    layers: Annotated[str, typer.Option(metavar="NUMBERS", show_default="1 to all")] = "",
    codecs: Annotated[str, typer.Option(metavar="NAMES", show_default="all usable")] = "",
    conditions: Annotated[
        str, typer.Option(metavar="NAMES", help="Conditions with memories.")
    ] = "gold,retrieved",
    codec: given.CodecOption = "raw",
    num_references: given.NumReferencesOption = None,
    embedder: given.EmbedderOption = None,
    index: given.IndexOption = "exact",
    template: given.TemplateOption = None,
    max_tokens: given.MaxTokensOption = 32,
    num_questions: given.NumQuestionsOption = 200,
    batch_size: given.BatchSizeOption = 32,
    seed: given.SeedOption = 0,
    dtype: given.DtypeOption = given.Dtype.FLOAT32,
    device: given.DeviceOption = "cpu",
    plot: given.PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Sweep selector and tokens kept, references, memory layers and codec over one set.

    The checkpoint is not trained again for any value. References are encoded
    once for all of them.
    """
    from memory3.cli.evaluation.run import run_ablation

    run_ablation(
        given.Loading(checkpoint, codec, embedder, dtype, device),
        given.Files(passages, questions, distractors, num_distractors, num_questions),
        given.Asking(num_references, template, max_tokens, batch_size, index, seed),
        given.Sweep(
            factors=given.split(factors),
            selectors=given.split(selectors),
            tokens_kept=given.split_numbers("tokens_kept", tokens_kept),
            references=given.split_numbers("references", references),
            layers=given.split_numbers("layers", layers),
            codecs=given.split(codecs),
            conditions=given.split(conditions),
        ),
        plot=plot,
        output=output,
    )
