"""Where the model runs and in which number format."""

from __future__ import annotations

from typing import Literal

import torch

from memory3.errors import SettingsError
from memory3.model.eight_bits import can_pack_int8

Weights = Literal["full", "int8"]


def check_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        SettingsError: It is no device's name, or not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"the device {name!r} cannot be used",
            field="device",
            remedy="use cpu, or cuda on a machine that has it",
        ) from error
    return device


def choose_dtype(name: str, device: torch.device, weights: Weights = "full") -> torch.dtype:
    """The number format: float32, bfloat16, or auto.

    Kernels round differently in batches of another size or width. In float32 that is far below what
    tells two tokens apart, so that an answer is the same batched or alone; in bfloat16 it is not
    always. So auto is float32 on a processor, and bfloat16 on a GPU, where large models need it,
    and with weights of eight bits, which are multiplied with nothing else.

    Raises:
        SettingsError: The weights are to be of eight bits, and there are no kernels for them.
    """
    if name == "auto":
        is_short = device.type == "cuda" or weights == "int8"
        dtype = torch.bfloat16 if is_short else torch.float32
    else:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if weights == "int8" and not can_pack_int8(device, dtype):
        raise SettingsError(
            f"weights of eight bits cannot be used on {device.type} with dtype {name}",
            field="weights",
            remedy="use them on cpu with dtype auto or bfloat16, or choose full",
        )
    return dtype
