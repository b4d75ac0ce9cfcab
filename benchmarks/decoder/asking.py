"""Requests to a decoder in the benchmark's own process."""

from __future__ import annotations

from memory3_decoder.parameters import GenerationRequest, MemoryOptions, SamplingParameters


def plain_request(prompt: tuple[int, ...], max_tokens: int) -> GenerationRequest:
    """So many tokens after a prompt, without memories, greedily and past the end of text."""
    return GenerationRequest(
        prompt="",
        prompt_tokens=prompt,
        max_tokens=max_tokens,
        bank="",
        sampling=SamplingParameters(max_tokens=max_tokens, ignore_eos=True),
        memory=MemoryOptions(),
        deadline=None,
    )
