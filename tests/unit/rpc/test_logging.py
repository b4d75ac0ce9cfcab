"""What a service writes to stderr."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from memory3.rpc.logging import configure_logging, get_logger
early = get_logger("early")
configure_logging("planet", {level!r}, "json")
structlog.contextvars.bind_contextvars(request_id="abc")
early.info("of us", count=3)
logging.getLogger("somebody.else").warning("of %s", "others")
try:
    1 / 0
except ZeroDivisionError as error:
    get_logger("x").error("broken", exc_info=error)
print("output")
"""


def _lines(level: str) -> list[dict[str, object]]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "output\n"
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_every_line_is_one_object_with_service_and_request() -> None:
    """Our lines and the libraries' have the same form, and standard output stays free."""
    lines = _lines("info")
    assert [line["event"] for line in lines] == ["of us", "of others", "broken"]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert {line["service"] for line in lines} == {"planet"}
    assert {line["request_id"] for line in lines} == {"abc"}
    assert lines[0]["count"] == 3
    assert "ZeroDivisionError" in str(lines[2]["exception"])


def test_the_level_is_kept_to() -> None:
    """What is less severe than the level is not written."""
    assert [line["event"] for line in _lines("warning")] == ["of others", "broken"]
