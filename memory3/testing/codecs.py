"""The contract of the codec family: subclass ``CodecContract`` and say how yours is made.

A plugin passes the family's tests by::

    from memory3.testing.codecs import CodecContract

    class TestMyCodec(CodecContract):
        def make(self):
            return MyCodec()

All tests call only what ``Codec`` promises. It must not know any one codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from memory3.codecs.base import Codec, Shape
from memory3.errors import CorruptDataError, InvalidArgumentError
from memory3.memory.envelope import Envelope, pack, unpack

# Layers, key and value, KV heads, tokens kept, head dim: the paper's, and others.
SHAPES: tuple[Shape, ...] = ((2, 2, 8, 8, 80), (3, 2, 3, 8, 32), (1, 2, 1, 1, 16), (2, 2, 2, 5, 64))
CPU = torch.device("cpu")


def example(shape: Shape, seed: int = 0) -> Tensor:
    """Key-values like those of a model: vectors of very different lengths, and some zeros."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(shape, generator=generator)
    lengths = torch.exp(2 * torch.randn(*shape[:-1], 1, generator=generator))
    values = vectors * lengths
    if shape[3] > 2:
        values[..., -1, :] = 0  # what the writer leaves behind a short reference
    return values


class CodecContract(ABC):
    """What every codec must do; pytest collects a subclass whose name starts with ``Test``.

    A codec that is trained for the memories of one checkpoint says so: `shapes` are then those of
    that checkpoint, `example` gives key-values like those it was trained on, and `tolerance` what
    it may lose of them.

    Attributes:
        tolerance: Largest allowed error of a number, as a share of the largest in its vector.
        shapes: Shapes the codec can encode.
    """

    tolerance: ClassVar[float] = 0.01
    shapes: ClassVar[tuple[Shape, ...]] = SHAPES

    @abstractmethod
    def make(self) -> Codec:
        """The codec under test, the same one at each call."""

    def example(self, shape: Shape, seed: int = 0) -> Tensor:
        """Key-values to encode."""
        return example(shape, seed)

    @pytest.fixture
    def codec(self) -> Codec:
        """The codec under test."""
        return self.make()

    def test_its_names_fit_an_envelope(self, codec: Codec) -> None:
        """Name and number format survive the header of an envelope."""
        shape = self.shapes[0]
        layers, _, heads, tokens, _ = shape
        envelope = Envelope(
            "00" * 32,
            codec.name,
            codec.dtype_name,
            shape,
            1,
            np.zeros((layers, heads, tokens), np.uint8),
            b"",
        )
        opened = unpack(pack(envelope))
        assert (codec.name, codec.dtype_name) == (opened.codec, opened.dtype)

    def test_the_size_is_known_beforehand(self, codec: Codec) -> None:
        """A payload has the size that its shape says, whatever the numbers."""
        for shape in self.shapes:
            for values in (self.example(shape), torch.zeros(shape), 100 * self.example(shape, 1)):
                assert codec.payload_bytes(shape) == len(codec.encode(values))

    def test_it_saves_space(self, codec: Codec) -> None:
        """No payload is larger than bfloat16."""
        for shape in self.shapes:
            assert codec.payload_bytes(shape) <= 2 * int(np.prod(shape))

    def test_numbers_come_back(self, codec: Codec) -> None:
        """Every number returns within the tolerance of its vector."""
        for seed, shape in enumerate(self.shapes):
            values = self.example(shape, seed)
            decoded = codec.decode(codec.encode(values), shape, dtype=torch.float32, device=CPU)
            assert decoded.shape == values.shape
            allowed = self.tolerance * values.abs().amax(-1, keepdim=True) + 1e-5
            assert ((decoded - values).abs() <= allowed).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_the_dtype_asked_for_is_given(self, codec: Codec, dtype: torch.dtype) -> None:
        """Decoding gives the number format of the model that reads."""
        shape = self.shapes[0]
        decoded = codec.decode(codec.encode(self.example(shape)), shape, dtype=dtype, device=CPU)
        assert decoded.dtype == dtype
        assert decoded.device == CPU
        assert torch.isfinite(decoded).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_any_number_format_can_be_encoded(self, codec: Codec, dtype: torch.dtype) -> None:
        """What matters are the numbers: bfloat16 ones encode alike in every format."""
        shape = self.shapes[0]
        values = self.example(shape).clamp(-1000, 1000).to(torch.bfloat16)
        values[values.abs() < 1e-3] = 0  # float16 would round what is smaller
        assert codec.encode(values) == codec.encode(values.to(dtype))

    def test_the_layout_in_memory_does_not_matter(self, codec: Codec) -> None:
        """A transposed view encodes as its copy does, and encoding changes nothing."""
        shape = self.shapes[0]
        values = self.example(shape)
        view = values.transpose(0, 3).contiguous().transpose(0, 3)
        assert not view.is_contiguous()
        before = values.clone()
        assert codec.encode(values) == codec.encode(view)
        assert torch.equal(before, values)

    def test_encoding_is_repeatable(self, codec: Codec) -> None:
        """The same memory gives the same bytes, so that banks can be compared."""
        values = self.example(self.shapes[0])
        assert codec.encode(values) == self.make().encode(values)

    def test_decoding_is_repeatable_and_its_result_is_its_own(self, codec: Codec) -> None:
        """Changing what was decoded changes neither the payload nor what is decoded next."""
        shape = self.shapes[0]
        payload = codec.encode(self.example(shape))
        first = codec.decode(payload, shape, dtype=torch.float32, device=CPU)
        expected = first.clone()
        first.zero_()
        again = codec.decode(payload, shape, dtype=torch.float32, device=CPU)
        assert torch.equal(expected, again)

    def test_a_batch_decodes_as_its_memories_do(self, codec: Codec) -> None:
        """Together or one by one, in their order; and none gives none."""
        for shape in self.shapes:
            payloads = [codec.encode(self.example(shape, seed)) for seed in range(3)]
            together = codec.decode_batch(payloads, shape, dtype=torch.float32, device=CPU)
            alone = [codec.decode(p, shape, dtype=torch.float32, device=CPU) for p in payloads]
            torch.testing.assert_close(together, torch.stack(alone))
            none = codec.decode_batch([], shape, dtype=torch.bfloat16, device=CPU)
            assert (none.shape, none.dtype) == ((0, *shape), torch.bfloat16)

    def test_a_payload_of_another_size_is_refused(self, codec: Codec) -> None:
        """Missing and surplus bytes are a typed error, before anything is allocated."""
        shape = self.shapes[0]
        payload = codec.encode(self.example(shape))
        for wrong in (b"", payload[:-1], payload + b"\0"):
            with pytest.raises(CorruptDataError) as caught:
                codec.decode(wrong, shape, dtype=torch.float32, device=CPU)
            assert caught.value.field == "envelope.payload"
            with pytest.raises(CorruptDataError):
                codec.decode_batch([payload, wrong], shape, dtype=torch.float32, device=CPU)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_numbers_that_are_not_finite_are_refused(self, codec: Codec, value: float) -> None:
        """One of them would spoil every answer that has the memory in its columns."""
        values = self.example(self.shapes[0])
        values[-1, -1, -1, -1, -1] = value
        with pytest.raises(InvalidArgumentError) as caught:
            codec.encode(values)
        assert caught.value.field == "key_values"
        assert caught.value.remedy

    def test_something_else_than_key_values_is_refused(self, codec: Codec) -> None:
        """Tensors of another number of dimensions, or without a key and a value."""
        layers, _, heads, tokens, width = self.shapes[0]
        wrong: tuple[tuple[int, ...], ...] = (
            (layers, heads, tokens, width),
            (layers, 3, heads, tokens, width),
            (0, 2, heads, tokens, width),
        )
        for shape in wrong:
            with pytest.raises(InvalidArgumentError) as caught:
                codec.encode(torch.zeros(shape))
            assert caught.value.field == "key_values"
