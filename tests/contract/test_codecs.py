"""Every registered codec against the contract of its family."""

from __future__ import annotations

import pytest

from memory3 import plugins
from memory3.codecs.base import Codec
from memory3.testing.codecs import CodecContract


class TestRegisteredCodecs(CodecContract):
    """One run of the suite for each entry point."""

    name: str

    @pytest.fixture(autouse=True, params=plugins.names("codecs"))
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make(self) -> Codec:
        """The codec that the entry point names."""
        codec: Codec = plugins.load("codecs", self.name)()
        return codec

    def test_it_is_registered_under_its_own_name(self, codec: Codec) -> None:
        """The name in an envelope finds the codec again."""
        assert self.name == codec.name
