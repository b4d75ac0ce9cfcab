"""Where a model runs and in which number format."""

import pytest
import torch

from memory3.errors import SettingsError
from memory3.model.placement import check_device, choose_dtype


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.bfloat16),
        ("bfloat16", "cpu", torch.bfloat16),
        ("float32", "cuda", torch.float32),
    ],
)
def test_the_number_format_follows_the_device(
    name: str, device: str, expected: torch.dtype
) -> None:
    """Unless told otherwise a processor computes exactly enough for repeatable answers."""
    assert expected == choose_dtype(name, torch.device(device))


def test_weights_of_eight_bits_choose_their_number_format() -> None:
    """Auto is bfloat16 with them; float32 and a GPU have no kernels for them."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_dtype("auto", cpu, "int8") == choose_dtype("bfloat16", cpu, "int8")
    assert choose_dtype("auto", cpu, "int8") == torch.bfloat16
    for name, device in (("float32", cpu), ("auto", cuda), ("bfloat16", cuda)):
        with pytest.raises(SettingsError, match="eight bits") as caught:
            choose_dtype(name, device, "int8")
        assert caught.value.field == "weights"


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    """The setting at fault is named."""
    with pytest.raises(SettingsError) as caught:
        check_device(name)
    assert caught.value.field == "device"
