"""Every registered selector against the contract of its family."""

from __future__ import annotations

import pytest

from memory3 import plugins
from memory3.memory.selectors.base import Selector
from memory3.testing.selectors import SelectorContract


class TestRegisteredSelectors(SelectorContract):
    """One run of the suite for each entry point."""

    name: str

    @pytest.fixture(autouse=True, params=plugins.names("selectors"))
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make(self) -> Selector:
        """The selector that the entry point names."""
        selector: Selector = plugins.load("selectors", self.name)()
        return selector

    def test_it_is_registered_under_its_own_name(self, selector: Selector) -> None:
        """The name in a configuration finds the selector again."""
        assert self.name == selector.name
