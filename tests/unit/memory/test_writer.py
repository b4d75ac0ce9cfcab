"""Writing: what is kept is what the rule says, batched or alone, and half the model rests."""

from __future__ import annotations

import pytest
import torch

from memory3 import plugins
from memory3.errors import InvalidArgumentError, ReferenceBlankError, ReferenceTooLongError
from memory3.memory.selectors.attention import AttentionSelector
from memory3.memory.selectors.first import FirstSelector
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter, encode_references
from memory3.model.transformer import Transformer
from memory3.testing.checkpoints import tiny_config, tiny_model
from tests.oracles.plain_transformer import PlainTransformer

CONFIG = tiny_config(num_layers=5, num_memory_layers=3)


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Five layers, the lower three of them memory layers."""
    return tiny_model(CONFIG, seed=3)


def _reference(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 512, (length,), generator=generator).tolist()


def _assert_same(actual: MemoryTensors, expected: MemoryTensors) -> None:
    assert actual.num_kept == expected.num_kept
    assert torch.equal(actual.positions, expected.positions)
    torch.testing.assert_close(actual.keys, expected.keys, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual.values, expected.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", plugins.names("selectors"))
def test_a_batch_equals_one_by_one(model: Transformer, name: str) -> None:
    """Neither the length nor the text of its neighbours changes a memory."""
    writer = MemoryWriter(model, CONFIG, selector=plugins.load("selectors", name)())
    references = [_reference(n, n) for n in (128, 1, 7, 8, 9, 60)]
    for together, reference in zip(writer.write(references), references, strict=True):
        (alone,) = writer.write([reference])
        _assert_same(together, alone)


def test_kept_heads_are_those_of_a_plain_causal_pass(model: Transformer) -> None:
    """Keys stay rotated to their places behind the prefix; values are untouched (paper §3)."""
    reference = _reference(40)
    (memory,) = MemoryWriter(model, CONFIG).write([reference])
    num_prefix = len(CONFIG.prefix_ids)
    sequence = [*CONFIG.prefix_ids, *reference]
    heads = PlainTransformer(model, CONFIG).run(sequence, range(len(sequence))).heads
    assert memory.keys.shape == (3, 2, 8, 16)
    for layer in range(3):
        for head in range(2):
            places = memory.positions[layer, head].long() + num_prefix
            for actual, expected in (
                (memory.keys, heads[layer].keys),
                (memory.values, heads[layer].values),
            ):
                torch.testing.assert_close(
                    actual[layer, head].double(),
                    torch.from_numpy(expected[head])[places],
                    rtol=1e-4,
                    atol=1e-5,
                )


def test_what_is_kept_received_most_attention(model: Transformer) -> None:
    """The choice of the paper's rule, from the unrotated heads of the plain pass."""
    reference = _reference(40, seed=1)
    (memory,) = MemoryWriter(model, CONFIG, selector=AttentionSelector()).write([reference])
    num_prefix = len(CONFIG.prefix_ids)
    sequence = [*CONFIG.prefix_ids, *reference]
    heads = PlainTransformer(model, CONFIG).run(sequence, range(len(sequence))).heads
    for layer in range(3):
        for head in range(2):
            received = 0.0
            for query_head in (2 * head, 2 * head + 1):
                queries = torch.from_numpy(heads[layer].queries_unrotated[query_head, num_prefix:])
                keys = torch.from_numpy(heads[layer].keys_unrotated[head, num_prefix:])
                received = received + (queries @ keys.T / 4).softmax(-1).sum(0)
            expected = sorted(torch.as_tensor(received).topk(8).indices.tolist())
            assert memory.positions[layer, head].tolist() == expected


def test_positions_rise_and_lie_in_the_reference(model: Transformer) -> None:
    """Kept tokens stand in order of position, each once."""
    for memory in MemoryWriter(model, CONFIG).write([_reference(n, n) for n in (9, 50, 128)]):
        assert memory.positions.dtype == torch.int16
        assert (memory.positions.diff(dim=-1) > 0).all()
    lengths = (9, 50, 128)
    memories = MemoryWriter(model, CONFIG).write([_reference(n, n) for n in lengths])
    assert all(int(m.positions.max()) < n for m, n in zip(memories, lengths, strict=True))


@pytest.mark.parametrize("length", [1, 3, 7])
def test_a_short_reference_keeps_all_it_has(model: Transformer, length: int) -> None:
    """Fewer tokens than are kept: all of them, and zeros behind that are masked."""
    (memory,) = MemoryWriter(model, CONFIG).write([_reference(length)])
    assert memory.num_kept == length
    assert (memory.positions[..., :length] == torch.arange(length)).all()
    for part in (memory.keys, memory.values, memory.positions):
        assert (part[:, :, length:] == 0).all()
    assert (memory.keys[:, :, :length].abs().amax(-1) > 0).all()


def test_writing_stops_after_the_last_memory_layer(model: Transformer) -> None:
    """Upper layers never run, and the last memory layer only projects (paper §3.4)."""
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    MemoryWriter(model, CONFIG).write([_reference(20), _reference(30)])
    for hook in hooks:
        hook.remove()
    expected = ["embedding"]
    for layer in range(3):
        expected += [f"blocks.{layer}.attention_norm"]
        expected += [f"blocks.{layer}.attention.w{part}" for part in "qkv"]
        if layer < 2:
            expected += [f"blocks.{layer}.attention.wo", f"blocks.{layer}.mlp_norm"]
            expected += [f"blocks.{layer}.mlp.w{part}" for part in "132"]
    assert expected == ran


def test_training_writes_what_inference_writes() -> None:
    """With gradients, and so another kernel, a reference is encoded causally just the same."""
    model = tiny_model(CONFIG, seed=3)
    tokens = torch.tensor([_reference(20), _reference(12) + [0] * 8])
    lengths = torch.tensor([20, 12])
    expected = list(encode_references(model, tokens, lengths, AttentionSelector()))
    model.requires_grad_(True)
    actual = list(encode_references(model, tokens, lengths, AttentionSelector()))
    assert len(actual) == 3
    for trained, inferred in zip(actual, expected, strict=True):
        assert trained.keys.requires_grad
        for row, length in enumerate(lengths.tolist()):
            for name in ("keys", "values", "scores"):
                torch.testing.assert_close(
                    getattr(trained, name)[row, :, :length],
                    getattr(inferred, name)[row, :, :length],
                    rtol=1e-4,
                    atol=1e-4,
                )


@pytest.mark.parametrize("tokens_kept", [1, 20, 128])
def test_more_or_fewer_tokens_can_be_kept(model: Transformer, tokens_kept: int) -> None:
    """The number asked for, or all there are."""
    writer = MemoryWriter(model, CONFIG, selector=FirstSelector(), tokens_kept=tokens_kept)
    memories = writer.write([_reference(30), _reference(5)])
    assert [m.num_kept for m in memories] == [min(30, tokens_kept), min(5, tokens_kept)]
    assert {tuple(m.keys.shape) for m in memories} == {(3, 2, tokens_kept, 16)}


@pytest.mark.parametrize("tokens_kept", [0, -1, 129])
def test_an_impossible_number_to_keep_is_refused(model: Transformer, tokens_kept: int) -> None:
    """Zero is not taken for the default."""
    with pytest.raises(InvalidArgumentError) as caught:
        MemoryWriter(model, CONFIG, tokens_kept=tokens_kept)
    assert caught.value.field == "tokens_kept"


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ([], ReferenceBlankError),
        ([5] * 129, ReferenceTooLongError),
        ([5, -1], InvalidArgumentError),
        ([5, 512], InvalidArgumentError),
    ],
)
def test_a_reference_that_cannot_be_written_is_named(
    model: Transformer, reference: list[int], error: type[InvalidArgumentError]
) -> None:
    """The place in the batch is named."""
    with pytest.raises(InvalidArgumentError) as caught:
        MemoryWriter(model, CONFIG).write([_reference(5), reference])
    assert type(caught.value) is error
    assert caught.value.field == "references[1]"
    assert caught.value.remedy


def test_no_references_give_no_memories(model: Transformer) -> None:
    """An empty batch is no error."""
    assert MemoryWriter(model, CONFIG).write([]) == []


def test_the_longest_reference_is_accepted(model: Transformer) -> None:
    """128 tokens exactly."""
    (memory,) = MemoryWriter(model, CONFIG).write([_reference(128)])
    assert memory.num_kept == 8
