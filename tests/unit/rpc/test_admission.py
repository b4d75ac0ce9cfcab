"""Counting calls in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory3.errors import InvalidArgumentError, QueueFullError
from memory3.rpc.admission import Admission, is_exempt

METHODS = ("/s/A", "/s/B", "/s/C")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("/grpc.health.v1.Health/Check", True),
        ("/grpc.health.v1.Health/Watch", True),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
        ("/memory3.v1.EncoderService/Encode", False),
        ("/grpc.health.v1.HealthLookalike/Check", False),
    ],
)
def test_health_and_reflection_alone_are_exempt(method: str, expected: bool) -> None:
    """No other service gets past the limits by its name."""
    assert is_exempt(method) is expected


@pytest.mark.parametrize(("overall", "limits"), [(0, {}), (-1, {}), (4, {"A": 0})])
def test_limits_below_one_are_refused(overall: int, limits: dict[str, int]) -> None:
    """A limit that lets nothing in is a mistake, named as such."""
    with pytest.raises(InvalidArgumentError) as caught:
        Admission(overall, limits)
    assert caught.value.field == ("A" if limits else "max_concurrent")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(METHODS)), max_size=60))
def test_the_limits_hold_in_any_order_of_calls(steps: list[tuple[bool, str]]) -> None:
    """A call is let in exactly when both its own and the common limit have room."""
    admission = Admission(4, {"A": 2})
    running = dict.fromkeys(METHODS, 0)
    for entering, method in steps:
        if entering:
            room = sum(running.values()) < 4 and (method != "/s/A" or running[method] < 2)
            if room:
                admission.enter(method)
                running[method] += 1
            else:
                with pytest.raises(QueueFullError) as caught:
                    admission.enter(method)
                assert caught.value.retry_after_s == 0.25
        elif running[method]:
            admission.leave(method)
            running[method] -= 1
        assert admission.num_running == sum(running.values())
