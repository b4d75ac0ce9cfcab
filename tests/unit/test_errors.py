"""The table of errors is whole: every error has a reason of its own and a real status code."""

import inspect
import re

import grpc
import pytest

from memory3 import errors
from memory3.errors import ERRORS_BY_REASON, CheckpointMismatchError, Memory3Error, from_reason

ALL = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Memory3Error) and value is not Memory3Error
]


def test_every_error_has_a_reason_of_its_own() -> None:
    """Each class declares its reason itself, no two share one, and the table holds them all."""
    assert all("reason" in vars(error) for error in ALL)
    assert {error.reason: error for error in ALL} == ERRORS_BY_REASON
    assert len(ERRORS_BY_REASON) == len(ALL)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_names_reasons_and_codes_keep_the_rules(error: type[Memory3Error]) -> None:
    """Names end in Error, reasons are UPPER_SNAKE, codes are gRPC's and never OK or UNKNOWN."""
    assert error.__name__.endswith("Error")
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", error.reason)
    assert error.code in set(grpc.StatusCode.__members__) - {"OK", "UNKNOWN"}


def _tree(base: type[Memory3Error], indent: str = "") -> list[str]:
    return [
        line
        for error in base.__subclasses__()
        if error.__module__ == errors.__name__
        for line in (error.__name__, *_tree(error, indent + "    "))
    ]


def test_the_tree_at_the_head_of_the_module_is_the_hierarchy() -> None:
    """The drawing names every class once, each under its base."""
    drawn = re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(name for _, name in drawn) == sorted(_tree(Memory3Error))
    parents = [Memory3Error.__name__]
    for stem, name in drawn:
        depth = len(stem) // 4 + 1
        parents[depth:] = [name]
        assert getattr(errors, name).__base__.__name__ == parents[depth - 1]


def test_an_error_reads_as_field_fault_and_remedy() -> None:
    """Its text says where, what and what to do."""
    error = errors.InvalidArgumentError("must be above 0", field="k", remedy="use 1 to 32")
    assert str(error) == "k: must be above 0 (use 1 to 32)"
    assert str(errors.NotFoundError("no such bank")) == "no such bank"


def test_a_mismatch_names_both_values() -> None:
    """What was expected and what was met travel in the metadata."""
    error = CheckpointMismatchError("differs", field="checkpoint_digest", expected="a", actual="b")
    assert (error.expected, error.actual) == ("a", "b")
    assert error.metadata == {"expected": "a", "actual": "b"}
    assert CheckpointMismatchError("differs").expected is None


def test_an_error_is_made_from_its_reason() -> None:
    """A known reason gives its class, an unknown one None."""
    made = from_reason("NOT_FOUND", "no such bank", field="bank")
    assert (type(made), str(made)) == (errors.NotFoundError, "bank: no such bank")
    assert from_reason("FROM_THE_FUTURE", "?") is None
