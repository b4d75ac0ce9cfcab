"""Where the model runs and in which number format."""

from __future__ import annotations

import torch

from memory3.errors import SettingsError


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


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format: float32, bfloat16, or auto.

    Kernels round differently in batches of another size or width. In float32 that is far below what
    tells two tokens apart, so that an answer is the same batched or alone; in bfloat16 it is not
    always. So auto is float32 on a processor, and bfloat16 on a GPU, where large models need it.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
