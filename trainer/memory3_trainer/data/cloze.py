"""Questions made from plain text: a span is taken out of a sentence and asked for.

A small model learns to read from a reference only after very many questions, more than any set of
written ones holds. Here every sentence of a corpus is a source: the span becomes a question word,
the rest of the sentence, cut and thinned so that it cannot be matched letter by letter, becomes the
question. Source: the idea of cloze translation, Lewis et al. 2019, arXiv 1906.04980; the rules are
ours.
It must not know how questions are stored or turned into batches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b(?:\d{{1,2}} (?:{_MONTH})|(?:{_MONTH})(?: \d{{1,2}})?\b)(?:,? \d{{4}}\b)?")
_YEAR = re.compile(r"\b(?:1\d{3}|20[0-2]\d)\b(?![,.]\d)")
_NUMBER = re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
_NAME = re.compile(r"\b[A-Z][\w’'-]+(?:(?: (?:of|the|de|and|von|van|for))* [A-Z][\w’'-]*)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[”\"’')]*\s+(?=[A-Z“\"(])")
_CLAUSE_SIGNS = ",;:()–—"
_PRONOUNS = {"he", "she", "it", "they", "this", "these", "his", "her", "its", "their"}
_STOP_WORDS = """
    a about after all also although an and any are as at be became because been before being
    between both but by can could did do does during each either few for from further had has have
    having he her here hers him his how however i if in into is it its itself just many may me more
    most much my neither no nor not now of off often on once one only or other our out over own s
    same she should since so some such than that the their them then there these they this those
    through to too under until up upon very was we were what when where which while who whom whose
    why will with within without would you your
"""
_STOP = frozenset(_STOP_WORDS.split())
Form = Literal["questions", "completions", "recitations"]
"""A question; the sentence up to a span, which is the answer; its first words, the rest asked for.

In the last two the answer stands behind the same words as in the passage: copying is learnt there
first, and of recitations every token teaches it.
"""
# Asked words by kind of span; where several fit, one is drawn.
_ASKED = {
    "date": ("when", "on what date", "what date"),
    "year": ("what year", "in what year", "when"),
    "number": ("how many", "what number", "how much"),
    "place": ("where", "what place", "which place"),
    "name": ("who", "what", "which", "whose name", "what is the name"),
    "phrase": ("what", "what", "which", "what kind"),
}
_PLACE_BEFORE = {"in", "at", "from", "near", "to", "into"}
_MIN_WORDS, _MAX_WORDS, _MAX_ANSWER_WORDS = 6, 32, 6
_MAX_BEGUN_WORDS, _MAX_RECITED_WORDS = 16, 16


@dataclass(frozen=True, slots=True)
class Cloze:
    """A question whose answer stands in the passage that it was made from."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    kind: str


def passages(text: str, *, num_words: int = 100) -> Iterator[str]:
    """Cut a text at sentence ends into passages of about `num_words` words."""
    held: list[str] = []
    count = 0
    for line in text.splitlines():
        for sentence in _SENTENCE_END.split(line.strip()):
            size = len(sentence.split())
            if held and count + size > num_words:
                yield " ".join(held)
                held, count = [], 0
            if sentence:
                held.append(sentence)
                count += size
    if held:
        yield " ".join(held)


def cloze_questions(
    passage: str, random: Random, *, title: str = "", limit: int, form: Form = "questions"
) -> list[Cloze]:
    """Questions about a passage, at most one a sentence, in the order of its sentences.

    Args:
        passage: The text that holds the answers.
        random: Draws sentences, spans, words and cuts.
        title: Stands for a pronoun at the beginning of a sentence, half of the time.
        limit: Most questions.
        form: What is made of a sentence.
    """
    found = []
    for sentence in _SENTENCE_END.split(passage):
        if _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS:
            question = _FORMS[form](sentence, random, title)
            if question is not None:
                found.append(question)
    chosen = sorted(random.sample(range(len(found)), min(limit, len(found))))
    return [found[number] for number in chosen]


def _ask(sentence: str, random: Random, title: str) -> Cloze | None:
    span = _draw(_spans(sentence), random)
    if span is None:
        return None
    answer = sentence[span.start : span.end]
    before, after = sentence[: span.start].split(), sentence[span.end :].split()
    if random.random() < 0.5:
        before, after = _clause(before, after)
    elif random.random() < 0.8:  # as long as what people ask
        before, after = before[-random.randint(2, 9) :], after[: random.randint(1, 9)]
    before = _named(before, title, random)
    asked = random.choice(_ASKED[span.kind])
    if asked.startswith(("where", "when", "in ", "on ")) and before and before[-1] in _STOP:
        before = before[:-1]  # "in" of "in 1922"
    dropped = random.choice((0.0, 0.0, 0.15, 0.3))
    before, after = (_thin(words, dropped, random) for words in (before, after))
    left = [word.lower().strip(".,") for word in before + after]
    if len([word for word in left if word not in _STOP and any(map(str.isalnum, word))]) < 2:
        return None  # nothing left to find it by
    if random.random() < 0.7:
        words = [asked, *before, *after]
    else:
        words = [*before, asked, *after]
    question = " ".join(words).rstrip(" .,;:") + random.choice(("?", "?", ""))
    if random.random() < 0.5:
        question = question[:1].upper() + question[1:]
    return Cloze(question, answer)


def _complete(sentence: str, random: Random, title: str) -> Cloze | None:
    spans = [s for s in _spans(sentence) if len(sentence[: s.start].split()) >= _MIN_WORDS - 2]
    span = _draw(spans, random)
    if span is None:
        return None
    before = _named(sentence[: span.start].split(), title, random)
    return Cloze(" ".join(before[-_MAX_BEGUN_WORDS:]), sentence[span.start : span.end])


def _recite(sentence: str, random: Random, title: str) -> Cloze | None:
    words = sentence.split()
    begun = random.randint(2, min(6, len(words) - 2))
    # From any place of the sentence on: what a sentence begins with is often what others do.
    start = random.randint(0, max(0, len(words) - begun - _MIN_WORDS))
    asked, rest = words[start : start + begun], words[start + begun :]
    return Cloze(" ".join(asked), " ".join(rest[:_MAX_RECITED_WORDS]))


_FORMS = {"questions": _ask, "completions": _complete, "recitations": _recite}


def _draw(spans: list[_Span], random: Random) -> _Span | None:
    """A span of any kind, rare kinds as often as common ones."""
    if not spans:
        return None
    kind = random.choice(sorted({span.kind for span in spans}))
    return random.choice([span for span in spans if span.kind == kind])


def _named(words: list[str], title: str, random: Random) -> list[str]:
    """Words with the title in place of a pronoun at the beginning, half of the time."""
    if title and words and words[0].lower() in _PRONOUNS and random.random() < 0.5:
        return [*title.split(), *words[1:]]
    return words


def _spans(sentence: str) -> list[_Span]:
    taken: list[_Span] = []

    def take(pattern: re.Pattern[str], kind: str) -> None:
        for match in pattern.finditer(sentence):
            start, end = match.span()
            first, _, rest = match.group().partition(" ")
            if rest and first.lower() in _STOP:  # the capital of a sentence's start
                start += len(first) + 1
            free = all(end <= span.start or span.end <= start for span in taken)
            if free and len(match.group().split()) <= _MAX_ANSWER_WORDS:
                taken.append(_Span(start, end, _kind(sentence, start, kind)))

    take(_DATE, "date")
    take(_YEAR, "year")
    take(_NUMBER, "number")
    take(_NAME, "name")
    # A capital at the start of a sentence is a name only where it is longer than a word.
    spans = [s for s in taken if s.kind != "name" or s.start or " " in sentence[: s.end]]
    spans += _phrases(sentence, taken)
    return [s for s in spans if sentence[s.start : s.end].lower() not in _STOP]


def _kind(sentence: str, start: int, kind: str) -> str:
    last = sentence[:start].split()[-1:]
    return "place" if kind == "name" and last and last[0] in _PLACE_BEFORE else kind


def _phrases(sentence: str, taken: list[_Span]) -> list[_Span]:
    """Runs of two to four words between stop words and signs: roughly, noun phrases."""
    found: list[_Span] = []
    run: list[tuple[int, int]] = []

    def close() -> None:
        if 2 <= len(run) <= 4:
            start, end = run[0][0], run[-1][1]
            if all(end <= span.start or span.end <= start for span in taken):
                found.append(_Span(start, end, "phrase"))
        run.clear()

    for match in re.finditer(r"[^\W\d_][\w’'-]*|[^\w\s]", sentence):
        word = match.group()
        if not word[0].isalpha() or word.lower() in _STOP:
            close()
        else:
            run.append(match.span())
    close()
    return found


def _clause(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """What stands between the nearest signs around the span, if that is long enough."""
    start = max(
        (n + 1 for n, word in enumerate(before) if word[-1] in _CLAUSE_SIGNS or word[0] == "("),
        default=0,
    )
    end = next((n + 1 for n, word in enumerate(after) if word[-1] in _CLAUSE_SIGNS), len(after))
    if len(before) - start + end < _MIN_WORDS - 1:
        return before, after
    return before[start:], after[:end]


def _thin(words: list[str], share: float, random: Random) -> list[str]:
    return [word for word in words if random.random() >= share]
