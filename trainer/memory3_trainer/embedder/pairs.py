"""What an embedder learns from: queries, and the references that should be found for them.

Questions find the references that hold their answers. Plain text gives two kinds more: a sentence
finds the reference that it was taken out of (the inverse cloze task, Lee et al. 2019, arXiv
1906.00300), and the end of a reference finds the next one of its document, as a chunk does while
generating. It must not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.data.qa import QuestionSet
from memory3.data.references import ReadingSet
from memory3.documents.sentences import sentence_spans
from memory3.documents.splitter import Piece, Splitter
from memory3.embedders.base import search_text
from memory3.errors import InvalidArgumentError
from memory3.people import biography, questions, sample_people

_MIN_WORDS = 5
_PAIRS_PER_DOCUMENT = 4
# A sentence that stays in its reference now and then keeps words that match worth something.
_KEPT_SHARE = 0.1
_NEXT_SHARE = 0.3


@dataclass(frozen=True)
class Pairs:
    """Queries with their references.

    Attributes:
        name: What they were made from, for the report.
        queries: Texts as they are searched with.
        references: Texts as they are searched for.
        gold: For each query the numbers of its references.
        groups: For each query the number of its document: what is held out is held out with all
            of its document.
    """

    name: str
    queries: list[str]
    references: list[str]
    gold: list[tuple[int, ...]]
    groups: list[int]

    def held_out(self, random: Random, *, share: float, most: int) -> tuple[list[int], list[int]]:
        """Split the queries by document.

        Args:
            random: Draws the documents.
            share: Share of the queries to hold out; at least one document's.
            most: The most queries to hold out, but for those of the last document.

        Returns:
            Numbers of the queries to learn from, and of those held out.

        Raises:
            InvalidArgumentError: There are not two documents.
        """
        groups = sorted(set(self.groups))
        if len(groups) < 2:
            raise InvalidArgumentError(
                f"{self.name} gives pairs of {len(groups)} documents, at least 2 are needed to "
                "hold one out",
                field=self.name,
                remedy="give more texts or questions",
            )
        sizes = dict.fromkeys(groups, 0)
        for group in self.groups:
            sizes[group] += 1
        random.shuffle(groups)
        chosen: set[int] = set()
        wanted, count = min(most, share * len(self.queries)), 0
        while not chosen or (count < wanted and len(chosen) < len(groups) - 1):
            group = groups[len(chosen)]
            chosen.add(group)
            count += sizes[group]
        numbers = range(len(self.queries))
        return (
            [n for n in numbers if self.groups[n] not in chosen],
            [n for n in numbers if self.groups[n] in chosen],
        )


def of_questions(
    name: str, questions: QuestionSet, tokenizer: Tokenizer, *, reference_length: int, most: int,
    random: Random,
) -> Pairs:  # fmt: skip
    """Questions as the decoder asks them, and the references that hold an answer.

    Args:
        name: Of the set.
        questions: The set; questions without an answer are left out.
        tokenizer: Cuts passages as the retriever does.
        reference_length: Most tokens of a reference.
        most: The most questions, drawn at random.
        random: Draws them.

    Raises:
        InvalidArgumentError: No question has an answer.
    """
    reading = ReadingSet.of([questions], tokenizer, reference_length=reference_length)
    asked = reading.questions
    if not asked:
        raise InvalidArgumentError(
            f"{name} has no question with an answer", field="questions", remedy="leave it out"
        )
    if len(asked) > most:
        asked = random.sample(asked, most)
    return Pairs(
        name,
        [question.text for question in asked],
        [reference.search_text for reference in reading.references],
        [question.gold for question in asked],
        [question.passage for question in asked],
    )


def of_people(num_people: int, random: Random) -> Pairs:
    """Questions about made-up people of the training split, one for each, and their biographies."""
    people = sample_people(random, num_people, "train", related=0.25)
    texts = [biography(random, person) for person in people]
    asked = []
    for person in people:
        attribute = random.choice(sorted(person.facts))
        asked += [question.prompt for question in questions(random, person, [attribute])]
    numbers = list(range(num_people))
    return Pairs("people", asked, texts, [(number,) for number in numbers], numbers)


def of_texts(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    reference_length: int,
    most: int,
    random: Random,
    progress: Callable[[int], None] = lambda pairs: None,
) -> Pairs:
    """Sentences and the references around them, ends of references and the next reference.

    Args:
        documents: Read until there are enough pairs; a few are made of each.
        tokenizer: Cuts them as the retriever does.
        reference_length: Most tokens of a reference.
        most: The most pairs.
        random: Draws sentences.
        progress: Told how many pairs there are.

    Raises:
        InvalidArgumentError: No document gives a pair.
    """
    splitter = Splitter(tokenizer, reference_length)
    found = Pairs("texts", [], [], [], [])
    for group, document in enumerate(documents):
        made = list(_of_document(document, splitter.split(document.text), random))
        if len(made) > _PAIRS_PER_DOCUMENT:
            made = random.sample(made, _PAIRS_PER_DOCUMENT)
        for query, reference in made[: most - len(found.queries)]:
            found.gold.append((len(found.references),))
            found.queries.append(query)
            found.references.append(reference)
            found.groups.append(group)
        progress(len(found.queries))
        if len(found.queries) >= most:
            break
    if not found.queries:
        raise InvalidArgumentError(
            "no text has two sentences in one reference", field="texts", remedy="give longer texts"
        )
    return found


def _of_document(
    document: Document, pieces: Sequence[Piece], random: Random
) -> Iterator[tuple[str, str]]:
    for place, piece in enumerate(pieces):
        sentences = _sentences(piece.text)
        if place + 1 < len(pieces) and random.random() < _NEXT_SHARE:
            after = pieces[place + 1]
            yield (
                " ".join(sentences[-2:]),
                search_text(document.title, after.heading, after.text.strip()),
            )
            continue
        long = [n for n, text in enumerate(sentences) if len(text.split()) >= _MIN_WORDS]
        if len(sentences) < 2 or not long:
            continue
        asked = random.choice(long)
        rest = [text for n, text in enumerate(sentences) if n != asked]
        around = piece.text.strip() if random.random() < _KEPT_SHARE else " ".join(rest)
        yield sentences[asked], search_text(document.title, piece.heading, around)


def _sentences(text: str) -> list[str]:
    spans = sentence_spans(text, 0, len(text), by_line=False)
    return [sentence for a, b in spans if (sentence := text[a:b].strip())]
