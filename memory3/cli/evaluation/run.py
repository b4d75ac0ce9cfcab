"""Runs an evaluation from options: reads the files, measures, prints, draws.

Imported by the command when it runs, as it loads torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from memory3.cli.evaluation.options import Asking, Files, Loading, Sweep, Texts
from memory3.cli.evaluation.tables import print_points, print_scores
from memory3.cli.options import Output
from memory3.cli.output import print_facts, print_json
from memory3.cli.places import default_checkpoint
from memory3.data.choices import read_choices
from memory3.data.documents import Document, iter_documents
from memory3.data.progress import Progress, progress_bar
from memory3.data.qa import QuestionSet
from memory3.documents.splitter import Splitter
from memory3.errors import InvalidArgumentError, PluginNotFoundError

try:
    import torch  # noqa: F401 -- tells what is missing before anything is read
except ModuleNotFoundError as missing:
    raise PluginNotFoundError(
        "evaluation needs torch, which is not installed",
        field="eval",
        remedy="pip install 'memory3[all]'",
    ) from missing

from memory3.evaluation.ablation import AblationSettings, ablate
from memory3.evaluation.bank import Bank, draw_documents
from memory3.evaluation.choice import ChoiceSettings, evaluate_choice
from memory3.evaluation.conditions import CONDITIONS, check_conditions
from memory3.evaluation.exam import QaSettings, QuestionExam
from memory3.evaluation.perplexity import PerplexitySettings, evaluate_perplexity
from memory3.evaluation.plots import check_plot, plot_ablation, plot_scores
from memory3.evaluation.qa import describe, evaluate_qa
from memory3.evaluation.subject import Subject


def run_qa(
    loading: Loading,
    files: Files,
    asking: Asking,
    *,
    conditions: Sequence[str],
    plot: Path | None,
    predictions: Path | None,
    output: Output,
) -> None:
    """``memory3 eval qa``."""
    chosen = check_conditions(conditions)
    check_plot(plot)
    questions = _questions(files, asking.seed)
    with progress_bar() as tell:
        distractors = _distractors(files, asking.seed, tell)
        result = evaluate_qa(
            _subject(loading),
            questions,
            chosen,
            QaSettings(**asdict(asking)),
            distractors=distractors,
            num_distractors=files.num_distractors,
            progress=tell,
        )
    scores = {name: score.to_json() for name, score in result.scores.items()}
    # Printed first: a file that cannot be written must not take the result with it.
    _print(output, result.to_json(), scores, {**result.recall, **result.settings})
    if predictions is not None:
        _write_lines(predictions, result.predictions)
    if plot is not None:
        plot_scores(scores, ("em", "f1"), plot)


def run_recall(loading: Loading, files: Files, asking: Asking, *, output: Output) -> None:
    """``memory3 eval recall``."""
    questions = _questions(files, asking.seed)
    with progress_bar() as tell:
        subject = _subject(loading)
        exam = QuestionExam(
            subject,
            questions,
            QaSettings(**asdict(asking)),
            distractors=_distractors(files, asking.seed, tell),
            num_distractors=files.num_distractors,
            progress=tell,
        )
    recall, settings = exam.recall(), describe(subject, exam)
    _print(output, {"recall": recall, "settings": settings}, {}, {**recall, **settings})


def run_choice(
    loading: Loading,
    files: Files,
    asking: Asking,
    *,
    conditions: Sequence[str],
    plot: Path | None,
    output: Output,
) -> None:
    """``memory3 eval choice``."""
    chosen = check_conditions(conditions)
    check_plot(plot)
    subject = _subject(loading)
    with progress_bar() as tell:
        bank = _bank(subject)
        if files.passages is not None:
            for passage in QuestionSet.read_passages(files.passages).values():
                bank.add_passage(passage.id, passage.title, passage.text)
        questions = read_choices(files.questions, bank.by_passage)
        bank.add_distractors(_distractors(files, asking.seed, tell), files.num_distractors)
        settings = ChoiceSettings(asking.num_references, asking.template, asking.index, asking.seed)
        scores, described = evaluate_choice(subject, bank, questions, chosen, settings, tell)
    shown = {name: score.to_json() for name, score in scores.items()}
    _print(output, {**shown, "settings": described}, shown, described)
    if plot is not None:
        plot_scores(shown, ("accuracy", "accuracy_normalised", "mc2"), plot)


def run_perplexity(
    loading: Loading, texts: Texts, asking: Asking, *, plot: Path | None, output: Output
) -> None:
    """``memory3 eval perplexity``."""
    check_plot(plot)
    subject = _subject(loading)
    with progress_bar() as tell:
        bank = _bank(subject)
        if texts.references:
            limit = texts.num_bank_references
            drawn = draw_documents(
                texts.references, limit, asking.seed, lambda n: tell("read", n, None)
            )
            bank.add_distractors(drawn, limit)
        settings = PerplexitySettings(
            texts.window, texts.max_tokens, asking.num_references, asking.index
        )
        read = iter_documents(texts.texts)
        scores, described = evaluate_perplexity(subject, read, bank, settings, tell)
    shown = {name: score.to_json() for name, score in scores.items()}
    _print(output, {**shown, "settings": described}, shown, described)
    if plot is not None:
        plot_scores(shown, ("loss", "bits_per_byte"), plot)


def run_ablation(
    loading: Loading,
    files: Files,
    asking: Asking,
    sweep: Sweep,
    *,
    plot: Path | None,
    output: Output,
) -> None:
    """``memory3 eval ablation``."""
    check_plot(plot)
    check_conditions(sweep.conditions, tuple(set(CONDITIONS) - {"none", "text", "gold-text"}))
    questions = _questions(files, asking.seed)
    with progress_bar() as tell:
        result = ablate(
            _subject(loading),
            questions,
            AblationSettings(**asdict(sweep)),
            QaSettings(**asdict(asking)),
            distractors=_distractors(files, asking.seed, tell),
            num_distractors=files.num_distractors,
            progress=tell,
        )
    if output is Output.JSON:
        print_json(result)
    else:
        print_points(result)
        _print_facts({**result["recall"], **result["settings"]})
    if plot is not None:
        plot_ablation(result, plot)


def _subject(loading: Loading) -> Subject:
    return Subject.load(
        loading.checkpoint or default_checkpoint(),
        codec=loading.codec,
        embedder=loading.embedder,
        dtype=str(loading.dtype),
        device=loading.device,
    )


def _bank(subject: Subject) -> Bank:
    length = subject.config.memory.reference_length
    return Bank(Splitter(subject.checkpoint.tokenizer, length))


def _questions(files: Files, seed: int) -> QuestionSet:
    if files.passages is None:
        raise InvalidArgumentError("there are no passages", field="passages")
    whole = QuestionSet.read(files.passages, files.questions)
    count = files.num_questions
    if count is None or count >= len(whole.questions):
        return whole
    places = sorted(Random(seed).sample(range(len(whole.questions)), count))
    return QuestionSet(whole.passages, [whole.questions[place] for place in places])


def _distractors(files: Files, seed: int, tell: Progress) -> list[Document]:
    if files.distractors:
        count = files.num_distractors
        return draw_documents(files.distractors, count, seed, lambda n: tell("read", n, None))
    if files.num_distractors:
        raise InvalidArgumentError(
            f"{files.num_distractors} distractors of no file",
            field="num_distractors",
            remedy="give --distractors FILE",
        )
    return []


def _print(
    output: Output,
    everything: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, object],
) -> None:
    if output is Output.JSON:
        print_json(everything)
        return
    if scores:
        print_scores(scores)
    _print_facts(facts)


def _print_facts(facts: Mapping[str, object]) -> None:
    # A template has line ends in it, which would break its line.
    print_facts({name: repr(v) if name == "template" else v for name, v in facts.items()})


def _write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot write {file}: {error.strerror}",
            field="predictions",
            remedy="give a file in a folder that can be written",
        ) from error
