"""Sizes and times as people write them."""

import pytest
import typer

from memory3.cli.quantities import seconds_of, seconds_text, size_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10GB", 10**10), ("512MiB", 512 << 20), ("1.5T", 1_500_000_000_000), ("4096", 4096),
     ("3 kb", 3000), ("7B", 7), ("none", 0), ("0", 0)],
)  # fmt: skip
def test_sizes(text: str, expected: int) -> None:
    """Powers of ten, and of two with an i."""
    assert size_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30d", 2_592_000), ("12h", 43_200), ("45m", 2700), ("1.5s", 1.5), ("2w", 1_209_600),
     ("never", 0)],
)  # fmt: skip
def test_times(text: str, expected: float) -> None:
    """A number and one letter."""
    assert seconds_of(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "10 parsecs", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """As a mistake in the command line."""
    with pytest.raises(typer.BadParameter):
        size_of(text)


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "d", "1y"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Without a unit nobody knows what is meant."""
    with pytest.raises(typer.BadParameter):
        seconds_of(text)


@pytest.mark.parametrize("text", ["30d", "12h", "45m", "90s", "2w", "1.5s"])
def test_a_time_is_written_as_it_was_read(text: str) -> None:
    """In its largest unit."""
    assert seconds_text(seconds_of(text)) in (text, "1m30s", "90s")
