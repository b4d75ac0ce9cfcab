"""Calls and answers between the decoder and its model's process, as MessagePack.

Types are read off the annotations of ``ModelWorker``, so what arrives is what was meant, and
nothing in a message can run. A tensor of a memory crosses once: it is numbered when it is first
sent, the other side keeps it under its number, and the next call tells which are not needed any
more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import msgspec
import torch
from torch import Tensor

from memory3.errors import Memory3Error, from_reason
from memory3_decoder.model.worker import ModelWorker

# Number, dtype, shape and bytes; only the number where the other side has it. An answer's tensors
# are not kept and have number 0.
_Packed = tuple[int, str, Sequence[int], bytes | None]

_NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))

_METHODS: dict[str, Callable[..., Any]] = {
    name: method
    for name, method in vars(ModelWorker).items()
    if not name.startswith("_") and callable(method)
}


class Call(msgspec.Struct, array_like=True):
    """A call of a method of the worker.

    Attributes:
        method: Its name.
        arguments: In order, by the types of its annotations.
        gone: Numbers of tensors that no later call names.
    """

    method: str
    arguments: msgspec.Raw
    gone: list[int]


class Answer(msgspec.Struct, array_like=True):
    """What a call gave.

    Attributes:
        has_failed: Whether the method raised.
        result: By the type of the method's annotation, if not.
        reason: Of the typed error that it raised; empty for any other error or none.
        message: What went wrong; with the traceback where the error is a defect.
        details: Field, remedy and the like of a typed error.
    """

    has_failed: bool
    result: msgspec.Raw = _NOTHING
    reason: str = ""
    message: str = ""
    details: dict[str, Any] = {}


class CallEncoder:
    """Packs calls, and remembers which tensors the other side has."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._gone: list[int] = []
        self._last_number = 0
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._pack)
        self._results = {
            name: msgspec.msgpack.Decoder(_hints(method)["return"], dec_hook=_unpack_whole)
            for name, method in _METHODS.items()
        }

    def call(self, method: str, arguments: Sequence[Any]) -> bytes:
        """The message of a call."""
        # Taken before the arguments are packed; what is let go of meanwhile is told the next time.
        gone, self._gone = self._gone, []
        packed = msgspec.Raw(self._encoder.encode(arguments))
        return self._encoder.encode(Call(method, packed, gone))

    def result(self, method: str, message: bytes) -> Any:
        """What a call gave.

        Raises:
            Memory3Error: What the method raised on purpose.
            RuntimeError: It failed by a defect.
        """
        answer = _ANSWERS.decode(message)
        if not answer.has_failed:
            return self._results[method].decode(answer.result)
        error = from_reason(answer.reason, answer.message, **answer.details)
        raise error or RuntimeError(answer.message)

    def _pack(self, tensor: object) -> _Packed:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"a value of {type(tensor).__name__} cannot cross to the model")
        key = id(tensor)
        if key in self._numbers:
            return self._numbers[key], "", (), None
        self._last_number += 1
        self._numbers[key] = self._last_number
        # Before the id of a tensor can be another's, this has run.
        weakref.finalize(tensor, self._forget, key).atexit = False
        return _pack(tensor, self._last_number)

    def _forget(self, key: int) -> None:
        self._gone.append(self._numbers.pop(key))


class CallDecoder:
    """Reads calls, keeps their tensors, and packs answers; the model's process has one.

    Args:
        device: Where tensors are put.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = device
        self._tensors: dict[int, Tensor] = {}
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_pack)
        self._arguments = {
            name: msgspec.msgpack.Decoder(_arguments(method), dec_hook=self._unpack)
            for name, method in _METHODS.items()
        }

    def __len__(self) -> int:
        return len(self._tensors)

    def call(self, message: bytes | bytearray) -> tuple[str, Sequence[Any]]:
        """A method and its arguments."""
        call = _CALLS.decode(message)
        arguments = self._arguments[call.method].decode(call.arguments)
        for number in call.gone:
            del self._tensors[number]
        return call.method, arguments

    def result(self, result: Any) -> bytes:
        """The message of what a method returned."""
        return self._encoder.encode(Answer(False, msgspec.Raw(self._encoder.encode(result))))

    def error(self, error: Exception, traceback: str) -> bytes:
        """The message of what a method raised."""
        if not isinstance(error, Memory3Error):
            return self._encoder.encode(Answer(True, message=traceback))
        names = ("field", "remedy", "metadata", "retry_after_s")
        details = {name: getattr(error, name) for name in names}
        return self._encoder.encode(
            Answer(True, reason=error.reason, message=error.message, details=details)
        )

    def _unpack(self, _: type, packed: Any) -> Tensor:
        number, *_rest, data = packed
        if data is not None:
            self._tensors[number] = _unpack_whole(Tensor, packed).to(self.device)
        return self._tensors[number]


def _pack(tensor: Tensor, number: int = 0) -> _Packed:
    data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return number, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data


def _unpack_whole(_: type, packed: Any) -> Tensor:
    _number, dtype, shape, data = packed
    # In memory of its own that may be written to, as torch wants it.
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype)).view(shape)


def _hints(method: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(getattr(method, "__wrapped__", method))


def _arguments(method: Callable[..., Any]) -> Any:
    hints = _hints(method)
    del hints["return"]
    return tuple[*hints.values()]  # type: ignore[misc]


_CALLS = msgspec.msgpack.Decoder(Call)
_ANSWERS = msgspec.msgpack.Decoder(Answer)
