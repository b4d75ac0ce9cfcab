"""Positions: one interval for all memories, and a context that never moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory3.memory.layout import Layout
from memory3.testing.checkpoints import tiny_config

layouts = st.builds(
    Layout,
    num_prefix=st.integers(1, 10),
    reference_length=st.integers(1, 256),
    chunk_length=st.integers(1, 128),
)


@given(layouts)
def test_parts_follow_each_other_without_gaps(layout: Layout) -> None:
    """Prefix, memories, separator, context, in this order and without overlap."""
    assert layout.memory_start == layout.num_prefix
    assert layout.separator == layout.memory_start + layout.reference_length
    assert layout.context_start == layout.separator + 1


@given(layouts, st.integers(0, 5000))
def test_chunks_cover_the_prompt(layout: Layout, num_tokens: int) -> None:
    """There are as many chunks as it takes, the last is never empty, and there is always one."""
    chunks = layout.num_chunks(num_tokens)
    assert chunks >= 1
    assert chunks * layout.chunk_length >= num_tokens
    assert (chunks - 1) * layout.chunk_length < max(1, num_tokens)


def test_the_papers_layout() -> None:
    """`<s>Reference:`, 128 positions, `<s>`, context."""
    config = tiny_config(prefix_ids=(1, 4, 5))
    layout = Layout.of(config)
    assert (layout.memory_start, layout.separator, layout.context_start) == (3, 131, 132)
    assert [layout.num_chunks(n) for n in (0, 1, 64, 65, 128)] == [1, 1, 1, 2, 2]
