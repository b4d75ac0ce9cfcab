"""``python -m memory3_trainer data``: from raw text to what training reads.

Each command writes beside its place and moves there whole. Nothing heavy is imported before a
command runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption
from memory3_trainer.data.cloze_cli import CLOZE_EXAMPLES, cloze
from memory3_trainer.data.command import (
    COMMAND,
    TextFieldOption,
    TextsArgument,
    TokenizerOption,
    emit_summary,
    told,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from memory3.embedders.base import Embedder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Prepare data: from raw text to packs, references and their neighbours.",
)


app.command(epilog=CLOZE_EXAMPLES)(cloze)


@app.command(
    epilog=examples(f"{COMMAND} tokenizer texts.jsonl.xz --vocab-size 16384 --out tokenizer.json")
)
def tokenizer(
    texts: TextsArgument,
    out: Annotated[Path, typer.Option(help="File to write.")],
    vocab_size: Annotated[int, typer.Option(min=300, help="Tokens in all.")] = 16_384,
    every: Annotated[int, typer.Option(min=1, help="Learn from every n-th document only.")] = 1,
    text_field: TextFieldOption = "text",
    output: OutputOption = Output.TABLE,
) -> None:
    """Train a byte-level BPE tokenizer."""
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3_trainer.tokenizer import train_tokenizer

    count = num_bytes = 0
    with told(), progress_bar() as tell:

        def read() -> Iterator[str]:
            nonlocal count, num_bytes
            for document in iter_documents(texts, text_field=text_field, shard=(0, every)):
                count += 1
                num_bytes += len(document.text.encode("utf-8", "surrogatepass"))
                tell("documents", count, None)
                yield document.text

        start = time.monotonic()
        trained = train_tokenizer(read(), vocab_size=vocab_size)
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = out.with_name(f".{out.name}.new")
        trained.save(str(staged))
        staged.rename(out)
    facts = {"documents": count, "bytes": num_bytes, "tokens": trained.get_vocab_size()}
    emit_summary(output, out, facts, start, count)


@app.command(epilog=examples(f"{COMMAND} deduplicate texts.jsonl.xz --out deduplicated"))
def deduplicate(
    texts: TextsArgument,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    threshold: Annotated[float, typer.Option(help="Similarity of duplicates.")] = 0.8,
    num_perm: Annotated[int, typer.Option(help="Hashes of a document.")] = 128,
    text_field: TextFieldOption = "text",
    output: OutputOption = Output.TABLE,
) -> None:
    """Leave out documents that are nearly the same as an earlier one (MinHash)."""
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3_trainer.data.deduplication import deduplicate as run

    start = time.monotonic()
    with told(), progress_bar() as tell:
        report = run(
            iter_documents(texts, text_field=text_field),
            out,
            threshold=threshold,
            num_permutations=num_perm,
            progress=lambda so_far: tell("documents", so_far.num_read, None),
        )
    facts = {**asdict(report), "num_dropped": report.num_dropped}
    emit_summary(output, out, facts, start, report.num_read)


@app.command(
    epilog=examples(f"{COMMAND} pack texts.jsonl.xz --tokenizer tokenizer.json --out pack")
)
def pack(
    texts: TextsArgument,
    tokenizer: TokenizerOption,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    min_tokens: Annotated[int, typer.Option(min=1, help="Leave out shorter documents.")] = 1,
    text_field: TextFieldOption = "text",
    output: OutputOption = Output.TABLE,
) -> None:
    """Tokenize texts into one long row of tokens."""
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3_trainer.data.packing import pack_texts

    start = time.monotonic()
    with told(), progress_bar() as tell:
        facts = pack_texts(
            iter_documents(texts, text_field=text_field),
            _opened(tokenizer),
            out,
            sources=[path.name for path in texts],
            min_tokens=min_tokens,
            progress=lambda documents, tokens: tell("documents", documents, None),
        )
    emit_summary(output, out, asdict(facts), start, facts.num_tokens)


@app.command(
    epilog=examples(f"{COMMAND} references texts.jsonl.xz --tokenizer tokenizer.json --out refs")
)
def references(
    texts: TextsArgument,
    tokenizer: TokenizerOption,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    reference_length: Annotated[
        int, typer.Option(min=8, max=256, help="Most tokens of a reference.")
    ] = 128,
    text_field: TextFieldOption = "text",
    output: OutputOption = Output.TABLE,
) -> None:
    """Cut texts into references, as the retriever does."""
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3_trainer.data.reference_store import write_references

    start = time.monotonic()
    with told(), progress_bar() as tell:
        facts = write_references(
            iter_documents(texts, text_field=text_field),
            _opened(tokenizer),
            out,
            reference_length=reference_length,
            sources=[path.name for path in texts],
            progress=lambda documents, references: tell("references", references, None),
        )
    emit_summary(output, out, asdict(facts), start, facts.num_references)


@app.command(
    epilog=examples(
        f"{COMMAND} lexical refs --out embedder",
        f"{COMMAND} lexical refs --questions qa/train --texts people.jsonl --out embedder",
    )
)
def lexical(
    references: Annotated[Path, typer.Argument(metavar="REFS", help="What `references` made.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    questions: Annotated[
        list[Path] | None,
        typer.Option(help="Question set NAME: words that every prompt has weigh little; again."),
    ] = None,
    texts: Annotated[list[Path] | None, typer.Option(help="More text to count; again.")] = None,
    dimensions: Annotated[int, typer.Option(min=32, max=8192, help="Length of a vector.")] = 384,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count the words of references for the lexical embedder."""
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3.data.prompts import question_prompt
    from memory3.data.qa import read_named
    from memory3.embedders.lexical import LexicalEmbedder
    from memory3_trainer.data.reference_store import ReferenceStore

    start = time.monotonic()
    with told(), progress_bar() as tell:
        store = ReferenceStore.open(references)

        def read() -> Iterator[str]:
            for number in range(len(store)):
                tell("references", number + 1, len(store))
                yield store.search_text(number)
            for name in questions or ():
                yield from (question_prompt(asked.question) for asked in read_named(name).questions)
            for document in iter_documents(texts or ()):
                yield document.text

        embedder = LexicalEmbedder.train(read(), dimensions=dimensions)
        out.mkdir(parents=True, exist_ok=True)
        for name, data in embedder.files().items():
            (out / name).write_bytes(data)
    facts = {"references": len(store), "dimensions": dimensions, "digest": embedder.digest}
    emit_summary(output, out, facts, start, len(store))


@app.command(
    epilog=examples(
        f"{COMMAND} neighbours pack refs --tokenizer tokenizer.json --embedder-dir embedder "
        "--out neighbours",
        f"{COMMAND} neighbours pack refs --checkpoint DIR --index exact --out neighbours",
    )
)
def neighbours(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="What `pack` made.")],
    references: Annotated[Path, typer.Argument(metavar="REFS", help="What `references` made.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Takes tokenizer and embedder from a checkpoint.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json, where there is no checkpoint yet.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Embedder with argument.", show_default="the one that the checkpoint names"
        ),
    ] = None,
    embedder_dir: Annotated[
        Path | None, typer.Option(help="The embedder's files, where there is no checkpoint yet.")
    ] = None,
    index: Annotated[str, typer.Option(help="Index with argument.")] = "hnsw",
    candidates: Annotated[int, typer.Option(min=1, help="Found before the filter.")] = 8,
    threshold: Annotated[
        str, typer.Option(help="Overlap above which a reference is dropped: 0.9, or 2/3.")
    ] = "0.9",
    exclude_same_document: Annotated[
        bool, typer.Option(help="Drop references cut from the chunk's own document.")
    ] = False,
    chunk_length: Annotated[int, typer.Option(min=1, help="Tokens of a chunk.")] = 64,
    output: OutputOption = Output.TABLE,
) -> None:
    """Find the reference of every chunk of a pack; goes on where it was stopped."""
    from memory3.data.progress import progress_bar
    from memory3_trainer.data.neighbours import NeighbourSettings, find_neighbours
    from memory3_trainer.data.packing import PackedText
    from memory3_trainer.data.reference_store import ReferenceStore

    start = time.monotonic()
    with told(), progress_bar() as tell:
        words, finds = _search_with(checkpoint, tokenizer, embedder, embedder_dir)
        facts = find_neighbours(
            PackedText.open(pack, words),
            ReferenceStore.open(references, words),
            words,
            finds,
            out,
            NeighbourSettings(
                index, candidates, _share(threshold), exclude_same_document, chunk_length
            ),
            progress=tell,
        )
    emit_summary(output, out, asdict(facts), start, facts.num_chunks)


def _search_with(
    checkpoint: Path | None, tokenizer: Path | None, embedder: str | None, folder: Path | None
) -> tuple[Tokenizer, Embedder]:
    from memory3.checkpoint import Checkpoint
    from memory3.embedders.loading import load_embedder
    from memory3.errors import InvalidArgumentError

    if checkpoint is not None:
        opened = Checkpoint.open(checkpoint)
        return opened.tokenizer, load_embedder(embedder, folder or opened.embedder_dir)
    if tokenizer is None:
        raise InvalidArgumentError(
            "there is neither a checkpoint nor a tokenizer",
            field="checkpoint",
            remedy="give --checkpoint, or --tokenizer and --embedder-dir",
        )
    return _opened(tokenizer), load_embedder(embedder, folder)


def _opened(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    from memory3.errors import InvalidArgumentError
    from memory3_trainer.tokenizer import END

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise InvalidArgumentError(
            f"{path.name} is no tokenizer", field="tokenizer", remedy="give a tokenizer.json"
        ) from error
    if tokenizer.token_to_id(END) is None:
        raise InvalidArgumentError(
            f"{path.name} has no token {END}", field="tokenizer", remedy=f"make one: {COMMAND}"
        )
    # "</s>" in somebody's text is text: it must not end a document.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _share(text: str) -> Fraction:
    from memory3.errors import InvalidArgumentError

    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidArgumentError(
            f"{text!r} is no share", field="threshold", remedy="write 0.9, or 2/3"
        ) from error
