"""The engine on random weights: the same batched and alone, and the same as the services' parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memory3.data.documents import Document
from memory3.data.qa import Passage, Question, QuestionSet
from memory3.errors import InvalidArgumentError
from memory3.evaluation.conditions import CONDITIONS
from memory3.evaluation.decoding import GreedyDecoder, Prompt
from memory3.evaluation.exam import QaSettings, QuestionExam
from memory3.evaluation.likelihood import Continuation, Likelihood
from memory3.evaluation.memories import MemoryStore
from memory3.evaluation.prompts import PromptMaker, question_template
from memory3.evaluation.qa import evaluate_qa
from memory3.evaluation.states import StateMemories, StateStore
from memory3.evaluation.subject import Subject
from memory3.memory.reader import MemoryReader
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.model.cache import SlotCache

TEXTS = ["Ada was born in Rome.", "She plays the cello and the harp. " * 6, "Bo keeps a dog.", "x"]
SETTINGS = QaSettings(max_tokens=6, batch_size=5)


@pytest.fixture
def store(subject: Subject) -> MemoryStore:
    """Memories of four texts of different length."""
    return MemoryStore(subject, lambda n: subject.encode(TEXTS[n]))


def _prompts(subject: Subject) -> list[Prompt]:
    texts = ["Where was Ada born?", "Why? " * 40, "", "Who keeps a dog?", "Question: Who?\nAnswer:"]
    reads = [(0, 1, 2), (3,), (2, 0), (), (1,)]
    return [
        Prompt(tuple(subject.encode(text)), numbers)
        for text, numbers in zip(texts, reads, strict=True)
    ]


def _alone(subject: Subject, prompt: Prompt, count: int) -> str:
    """What the decoder service does for one request: envelope, reader, prefill, steps."""
    writer = MemoryWriter(subject.model, subject.config)
    digest = subject.checkpoint.digest
    reader = MemoryReader(subject.config, digest, dtype=subject.model.dtype)
    memories = [
        reader.read(to_envelope(memory, subject.codec, digest))
        for memory in writer.write([subject.encode(TEXTS[n]) for n in prompt.references])
    ]
    cache = SlotCache(subject.model, num_slots=1)
    chunks = [memories] * subject.model.layout.num_chunks(len(prompt.tokens))
    tokens = torch.tensor(prompt.tokens, dtype=torch.int64)
    logits = subject.model.prefill(cache, 0, tokens, chunks).logits
    found: list[int] = []
    while len(found) < count:
        token = int(logits[0, : subject.num_tokens].argmax())
        if token == subject.config.eos_id:
            break
        found.append(token)
        if "\n" in subject.checkpoint.tokenizer.decode(found):
            break
        logits = subject.model.decode(cache, torch.tensor([0]), torch.tensor([token])).logits
    text: str = subject.checkpoint.tokenizer.decode(found)
    return text.split("\n")[0].strip()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_answers_are_those_of_the_services(
    subject: Subject, store: MemoryStore, batch_size: int
) -> None:
    """In batches of any size every prompt is answered as alone, through the wire's form."""
    prompts = _prompts(subject)
    decoder = GreedyDecoder(subject, store, num_references=3, max_tokens=9, batch_size=batch_size)
    with torch.inference_mode():
        expected = [_alone(subject, prompt, 9) for prompt in prompts]
    assert decoder.answers(prompts) == expected
    assert len(set(expected)) > 1


def test_memories_change_what_is_said(subject: Subject, store: MemoryStore) -> None:
    """The log-probabilities of an answer depend on what is attached, and only on that."""
    tokens = tuple(subject.encode("Where was Ada born?"))
    answer = tuple(subject.encode(" Rome"))
    likelihood = Likelihood(subject, store, num_references=3)
    items = [Continuation(Prompt(tokens, reads), answer) for reads in ((), (0,), (2,), (0,))]
    none, own, other, again = likelihood.logprobs(items)
    assert own == again
    assert own != none != other != own
    assert all(value < 0 for value in own)
    assert likelihood.logprobs([]) == []


def test_the_likeliest_continuation_is_the_greedy_answer(
    subject: Subject, store: MemoryStore
) -> None:
    """Every token that greedy decoding chose is at least as likely as any token by chance."""
    prompt = Prompt(tuple(subject.encode("Who keeps a dog?")), (2,))
    with torch.inference_mode():
        text = _alone(subject, prompt, 1)
    likelihood = Likelihood(subject, store, num_references=3)
    vocabulary = [Continuation(prompt, (token,)) for token in range(subject.num_tokens)]
    values = [item[0] for item in likelihood.logprobs(vocabulary)]
    assert sum(torch.tensor(values).double().exp()) == pytest.approx(1.0, abs=1e-5)
    best = max(range(len(values)), key=values.__getitem__)
    assert subject.checkpoint.tokenizer.decode([best]).strip() == text


def test_a_store_forgets_and_writes_again(subject: Subject) -> None:
    """Its size is bounded; what comes back after being dropped is the same."""
    store = MemoryStore(subject, lambda n: subject.encode(TEXTS[n]), max_bytes=1)
    first = store.fetch([0, 1])
    store.fetch([2, 3])
    again = store.fetch([0, 0])
    assert store.num_written == 5
    assert list(again) == [0]
    assert torch.equal(again[0].keys, first[0].keys)


@pytest.mark.parametrize("selector", ["attention", "random", "value-norm"])
@pytest.mark.parametrize(
    ("kept", "layers", "codec"), [(3, 2, "raw"), (16, 1, "int8"), (128, 2, "raw")]
)
def test_memories_from_states_are_those_of_the_writer(
    subject: Subject, selector: str, kept: int, layers: int, codec: str
) -> None:
    """One encoding serves every selector, number of tokens, number of layers and codec."""
    states = StateStore(
        subject, lambda n: subject.encode(TEXTS[n]), ["attention", "random", "value-norm"]
    )
    changed = subject.with_memory(
        selector=selector, tokens_kept=kept, num_memory_layers=layers
    ).with_codec(codec)
    taken = StateMemories(changed, states).fetch(range(4))
    written = MemoryStore(changed, lambda n: subject.encode(TEXTS[n])).fetch(range(4))
    for number in range(4):
        assert taken[number].num_kept == written[number].num_kept
        assert torch.equal(taken[number].positions, written[number].positions)
        torch.testing.assert_close(taken[number].keys, written[number].keys, atol=0.05, rtol=0.02)
        torch.testing.assert_close(
            taken[number].values, written[number].values, atol=0.05, rtol=0.02
        )
    assert states.num_encoded == 4


def test_an_exam_has_every_condition_and_repeats(subject: Subject, people: QuestionSet) -> None:
    """Scores are shares of the questions with an answer; a second run says the same."""
    result = evaluate_qa(subject, people, CONDITIONS, replace(SETTINGS, with_loss=True))
    printed = result.to_json()
    assert list(printed) == [*CONDITIONS, "recall", "settings"]
    for condition in CONDITIONS:
        score = printed[condition]
        assert score["n"] == 12
        assert 0 <= score["em"] <= score["f1"] <= 1
        assert score["loss"] > 0
    assert result.recall["recall@5"] == 1.0
    assert result.settings["num_questions_without_answer"] == 1
    assert len(result.predictions) == 12
    again = evaluate_qa(subject, people, CONDITIONS, replace(SETTINGS, with_loss=True))
    assert (again.to_json(), again.predictions) == (printed, result.predictions)


def test_distractors_make_the_bank_larger(subject: Subject, people: QuestionSet) -> None:
    """They are searched with the passages."""
    texts = [passage.text for passage in people.passages.values()]
    distractors = [Document(f"{number}", "", text) for number, text in enumerate(texts)]
    exam = QuestionExam(subject, people, SETTINGS, distractors=distractors, num_distractors=9)
    assert exam.num_distractors == 9
    own = sum(map(len, exam.bank.by_passage.values()))
    assert len(exam.bank.references) == own + 9
    assert all(any(number >= own for number in asked.found) for asked in exam.asked)
    assert exam.recall()["recall@5"] == 1.0


def test_odd_questions_are_answered(subject: Subject) -> None:
    """Emoji, questions past the context, passages without text, and a title alone."""
    passages = [
        Passage("1", "", "Zoë 🎻 plays. " * 500),
        Passage("2", "Only a title", ""),
        Passage("3", "", "\u200b\ufeff"),
    ]
    asked = [
        Question("a", "🎻?", ("Zoë",), "1"),
        Question("b", "why " * 3000, ("the", ""), "2"),
        Question("c", "?!", ("x" * 5000,), "3"),
    ]
    odd = QuestionSet({p.id: p for p in passages}, asked)
    result = evaluate_qa(subject, odd, CONDITIONS, replace(SETTINGS, with_loss=True))
    assert {score.n for score in result.scores.values()} == {3}
    assert result.settings["num_shortened_prompts"] >= 6


def test_prompts_leave_room_for_the_answer(subject: Subject) -> None:
    """References that do not fit are left out from the end; a long question keeps its end."""
    maker = PromptMaker(subject, "Q: {question}\nA:", max_tokens=12)
    room = subject.config.context_length - 12
    texts = ["first " * 20, "second " * 20, "third " * 400]
    prompt = maker.with_texts("why?", texts)
    text = subject.checkpoint.tokenizer.decode(list(prompt.tokens))
    assert text.startswith("first first")
    assert "second" in text
    assert "third" not in text
    assert text.endswith("\n\nQ: why?\nA:")
    assert maker.num_shortened == 1
    long = maker.plain("why " * 2000)
    assert len(long.tokens) == room
    assert subject.checkpoint.tokenizer.decode(list(long.tokens)).endswith("\nA:")


@pytest.mark.parametrize("template", ["no question", "{question} {question}"])
def test_a_template_holds_the_question_once(template: str) -> None:
    """Else the error says how one looks."""
    with pytest.raises(InvalidArgumentError, match="template"):
        question_template(template, {})


def test_templates_come_from_option_checkpoint_or_training() -> None:
    """In this order."""
    stored = {"question_template": "S {question}"}
    assert question_template("T {question}\\n", stored) == "T {question}\n"
    assert question_template(None, stored) == "S {question}"
    assert question_template(None, {}) == "Question: {question}\nAnswer:"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (QaSettings(max_tokens=512), "max_tokens"),
        (QaSettings(max_tokens=0), "max_tokens"),
        (QaSettings(num_references=0), "num_references"),
        (QaSettings(index="nowhere"), "indexes"),
    ],
)
def test_settings_out_of_range_are_refused(
    subject: Subject, people: QuestionSet, settings: QaSettings, field: str
) -> None:
    """The field is named."""
    from memory3.errors import Memory3Error

    with pytest.raises(Memory3Error) as caught:
        evaluate_qa(subject, people, ["none"], settings)
    assert caught.value.field == field


def test_a_set_without_answers_is_refused(subject: Subject, people: QuestionSet) -> None:
    """Nothing can be scored."""
    only = QuestionSet(people.passages, [people.questions[-1]])
    with pytest.raises(InvalidArgumentError, match="no question has an answer"):
        evaluate_qa(subject, only, ["none"], SETTINGS)
