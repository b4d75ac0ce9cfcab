"""What a person does on the gateway's page, in a real browser over real services."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory3.launcher import LocalServices
from tests.e2e.page import HOSTILE, PEOPLE, browser, needs_chromium
from tests.node import node_package

pytestmark = [pytest.mark.e2e, needs_chromium]

# Where to keep pictures for the documentation; they are taken in any case.
PICTURES = os.environ.get("MEMORY3_PICTURES")


@pytest.fixture
def page(gateway_services: LocalServices, tmp_path: Path) -> Iterator[Any]:
    """The page, opened; nothing may have been refused by its policy, nor failed in a script."""
    with browser(tmp_path / "profile", viewport={"width": 1180, "height": 860}) as context:
        opened = context.new_page()
        faults: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        opened.goto(str(gateway_services.gateway_url), wait_until="domcontentloaded")
        opened.locator("#references li .row").first.wait_for()
        yield opened
        assert faults == []


def ask(page: Any, question: str) -> str:
    """Ask, and wait for the end of the answer; gives what was said."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.locator(".answer:not(.old) .meta", has_text=re.compile("first word after")).wait_for()
    return str(page.locator(".answer:not(.old) .said").inner_text())


def picture(page: Any, name: str, *, whole: bool = False) -> None:
    """Keep a picture of what is seen, or of the whole page, where the environment says so."""
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=whole)


def test_ask_see_correct_and_ask_again(page: Any) -> None:
    """The answer comes from a reference, says which, and changes when the reference does."""
    question = "Which instrument does Elsa Durand play?"
    assert "cello" in ask(page, question)
    part = page.locator(".answer:not(.old) .part").first
    part.focus()
    page.keyboard.press("Enter")
    assert part.get_attribute("aria-pressed") == "true"
    assert "Elsa Durand was born" in page.locator("#read-list li").first.inner_text()
    assert re.search(r"[1-9][\d.]* % · score \d", page.locator("#read-list li").first.inner_text())

    row = page.locator("#references li", has_text="Elsa Durand")
    row.get_by_role("button", name="Correct").click()
    page.fill("#dialog-text", PEOPLE["elsa.txt"].replace("cello", "trumpet"))
    page.get_by_role("button", name="Save").click()
    page.locator("#done", has_text="Corrected").wait_for()
    assert "trumpet" in ask(page, question)
    assert "cello" in page.locator(".answer.old .said").inner_text()
    page.locator(".answer:not(.old) .part").first.click()
    picture(page, "page-corrected", whole=True)

    row = page.locator("#references li", has_text="Elsa Durand")
    row.get_by_role("button", name="Erase").click()
    page.check("#dialog-bytes")
    page.locator("#dialog").get_by_role("button", name="Erase").click()
    page.locator("#done", has_text="Receipt").wait_for()
    assert "trumpet" not in ask(page, question)
    # As it was, for the tests after this one.
    page.locator("#adding summary").click()
    page.fill("#add-text", PEOPLE["elsa.txt"])
    page.fill("#add-source", "elsa.txt")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator("#done", has_text="Added as 1").wait_for()


def test_hostile_text_stays_text(page: Any) -> None:
    """Markup in a reference or its source is shown as it was written, and never obeyed."""
    page.select_option("#bank", "reports")
    page.fill("#query", "Mallory was here")
    page.press("#query", "Enter")
    row = page.locator("#references li", has_text="Mallory")
    row.wait_for()
    assert HOSTILE in row.inner_text()
    ask(page, "Who was here, Mallory?")
    page.locator(".answer:not(.old) .part").first.click()
    assert "<b>mallory</b>" in page.locator("#read-list").inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script, main b").count() == 0


def test_narrow_and_dark(page: Any) -> None:
    """At 400 pixels nothing runs out of the page, in the dark the ground is dark."""
    page.set_viewport_size({"width": 400, "height": 800})
    page.emulate_media(color_scheme="dark")
    ask(page, "Where was Jonas Okafor born?")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 27)"
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    picture(page, "page-narrow-dark")


def test_every_field_has_a_name(page: Any) -> None:
    """Each field and button has a name for those who cannot see the page."""
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button")]
          .filter((each) => !each.labels?.length && !each.textContent.trim()
            && !each.getAttribute("aria-label") && !each.closest("dialog"))
          .map((each) => each.outerHTML)"""
    )
    assert unnamed == []


def test_axe_finds_nothing(page: Any, tmp_path: Path) -> None:
    """The checker axe-core has nothing to say of the page, light and dark, with an answer open."""
    axe = node_package(tmp_path, "axe-core@4") / "axe.min.js"
    ask(page, "Where was Jonas Okafor born?")
    page.locator(".answer:not(.old) .part").first.click()
    page.locator("#adding summary").click()
    # Evaluated by the debugger: the page's own policy lets no such script in.
    page.evaluate(axe.read_text())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run()")["violations"]
        told = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
        assert (scheme, told) == (scheme, [])


def test_a_token_stays_in_the_tab(page: Any) -> None:
    """A token is kept for this tab and sent with every request."""
    page.locator(".token summary").click()
    page.fill("#token", "secret")
    with page.expect_request("**/api/status") as sent:
        page.press("#token", "Tab")
    assert sent.value.headers["authorization"] == "Bearer secret"
    assert page.evaluate("sessionStorage.getItem('memory3-token')") == "secret"
    assert page.evaluate("localStorage.length") == 0
