"""The three services as processes, with a proxy on each way, so that networks can be bad.

client → proxy → decoder → proxy → retriever → proxy → encoder
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from memory3.client import Client
from memory3.launcher import LaunchOptions, LocalServices
from memory3.launcher.ports import free_ports
from memory3.testing.checkpoints import tiny_checkpoint
from tests.e2e.chain import CHUNK_LENGTH, PATIENCE_S, REFERENCES_PER_CHUNK, settle, until
from tests.tcp_proxy import TcpProxy

Way = Literal["client", "retriever", "encoder"]
WAYS: tuple[Way, ...] = ("client", "retriever", "encoder")
# An answer long enough for harm to come while it is written.
NUM_TOKENS = 256


class ProxiedServices:
    """A stack whose ways can be harmed; use it in a ``with`` block.

    Attributes:
        services: The processes.
        ways: The proxy before the decoder, the retriever and the encoder.

    Args:
        folder: For checkpoint, data and logs.
        environment: Variables of the services.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._environment = environment
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        checkpoint = tiny_checkpoint(
            self._folder / "tiny",
            chunk_length=CHUNK_LENGTH,
            references_per_chunk=REFERENCES_PER_CHUNK,
        )
        decoder, retriever, encoder = free_ports(3)
        self.ways: dict[Way, TcpProxy] = {
            "client": self._cleanup.enter_context(TcpProxy(decoder)),
            "retriever": self._cleanup.enter_context(TcpProxy(retriever)),
            "encoder": self._cleanup.enter_context(TcpProxy(encoder)),
        }
        self.services = self._cleanup.enter_context(
            LocalServices(
                LaunchOptions(
                    checkpoint=checkpoint.path,
                    data=self._folder / "data",
                    state=self._folder / "logs",
                    ports={"decoder": decoder, "retriever": retriever, "encoder": encoder},
                    cache="local",
                    # The later of two options wins.
                    arguments={
                        "decoder": ["--retriever", f"127.0.0.1:{self.ways['retriever'].port}"],
                        "retriever": ["--encoder", f"127.0.0.1:{self.ways['encoder'].port}"],
                    },
                    environment=self._environment,
                    grace_s=PATIENCE_S,
                )
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def client(self) -> Client:
        """A client that reaches the decoder through its proxy, the others directly."""
        addresses = self.services.addresses
        return Client(
            f"127.0.0.1:{self.ways['client'].port}", addresses["retriever"], addresses["encoder"]
        )

    def heal(self) -> None:
        """Make all ways good, start what has ended, and wait until all have found each other."""
        for proxy in self.ways.values():
            proxy.heal()
        for process in self.services.processes.values():
            if process.exit_code is not None:
                process.start()
        settle(self.services)

    def is_idle(self) -> bool:
        """Whether the decoder holds nothing for anybody."""
        with self.services.client() as client:
            info = client.decoder_info()
        return not (info.num_running or info.num_waiting)

    def wait_until_idle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until no slot is held.

        Raises:
            AssertionError: Some still are.
        """
        until(self.is_idle, timeout_s)


def greedy(**changes: Any) -> dict[str, Any]:
    """Options of an answer of several chunks that fails or goes on in a second."""
    wishes: dict[str, Any] = {
        "max_tokens": NUM_TOKENS,
        "ignore_eos": True,
        "frequency_penalty": 0.5,
        "retrieval_timeout": 1.0,
    }
    return {**wishes, **changes}
