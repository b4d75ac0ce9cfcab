"""Which characters of an answer lie in which chunk."""

from __future__ import annotations

from memory3_gateway.spans import Spans

from memory3.sdk.answers import ChunkMemories, Finish, TextDelta, Usage


def _finish(*starts: int) -> Finish:
    usage = Usage(prompt_tokens=4, completion_tokens=4)
    chunks = tuple(ChunkMemories(0, n, start, ()) for n, start in enumerate(starts))
    return Finish(choice=0, reason="stop", usage=usage, chunks=chunks)


def _told(*starts: int) -> dict[int, tuple[int, int]]:
    spans = Spans()
    for word in ("ab", "cd", "ef", "gh"):
        spans.feed(TextDelta(choice=0, text=word, token_ids=(1,)))
    return spans.of(_finish(*starts))


def test_an_answer_without_memories_has_no_chunks() -> None:
    """Where nothing was read there is nothing to tell, and the answer is as good."""
    assert _told() == {}


def test_a_chunk_has_the_text_up_to_the_next() -> None:
    """The first generated chunk begins with the text, the last one ends with it."""
    assert _told(0, 2, 6) == {1: (0, 4), 2: (4, 8)}
    assert _told(0) == {0: (0, 8)}
