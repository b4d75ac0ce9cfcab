"""A5: floods and bombs of HTTP/2 against a thread-pool service and one on an event loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random

import grpc
import pytest

from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import decoder_pb2, decoder_pb2_grpc, encoder_pb2, encoder_pb2_grpc
from tests.faults.attacked import Attacked
from tests.faults.campaign import FULL, Campaign
from tests.faults.floods import FLOODS, Target, flooded

_RECOVERY_S = 5.0
_MAX_GROWTH = 256 << 20
_ENCODER, _DECODER = "/memory3.v1.EncoderService/Encode", "/memory3.v1.DecoderService/Generate"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Attacked]]:
    """An encoder, which answers on threads, and a decoder, which answers on an event loop."""
    folder = tmp_path_factory.mktemp("floods")
    checkpoint = tiny_checkpoint(folder / "tiny").path
    made = [
        Attacked(module, folder, "--checkpoint", checkpoint)
        for module in ("memory3_encoder", "memory3_decoder")
    ]
    yield made
    for each in made:
        each.close()


def _embeds(address: str) -> bool:
    with connect(address, retries=False) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        request = encoder_pb2.EmbedRequest(texts=["Ada"])
        try:
            return len(stub.Embed(request, timeout=_RECOVERY_S).vectors) == 1
        except grpc.RpcError:
            return False


def _generates(address: str) -> bool:
    with connect(address, retries=False) as channel:
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)
        sampling = decoder_pb2.SamplingParameters(max_tokens=2, ignore_eos=True)
        request = decoder_pb2.GenerateRequest(prompt="Who?", sampling=sampling)
        try:
            return any(e.HasField("finish") for e in stub.Generate(request, timeout=_RECOVERY_S))
        except grpc.RpcError:
            return False


def _long_requests() -> tuple[bytes, bytes]:
    sampling = decoder_pb2.SamplingParameters(max_tokens=100, ignore_eos=True)
    generate = decoder_pb2.GenerateRequest(prompt="Who?", sampling=sampling)
    encode = encoder_pb2.EncodeRequest()
    for number in range(20):
        encode.references.add(text=f"Ada has {number} ships.")
    return encode.SerializeToString(), generate.SerializeToString()


@pytest.mark.timeout(0)
def test_services_bear_floods(services: list[Attacked], campaign: Campaign) -> None:
    """Health answers during it, calls are answered again within 5 s, and memory stays bounded."""
    works: tuple[Callable[[str], bool], ...] = (_embeds, _generates)
    size = 10 if os.environ.get(FULL) else 2

    def case(number: int) -> None:
        flood, which = FLOODS[number % len(FLOODS)], number // len(FLOODS) % 2
        service, path = services[which], (_ENCODER, _DECODER)[which]
        target = Target(service.address, path, _long_requests()[which], size)
        before = service.rss_bytes
        told = f"{flood.__name__} {path}"
        with flooded(flood, target, Random(number)):
            assert service.seconds_until(service.is_serving) < _RECOVERY_S, told
        took = service.seconds_until(lambda: works[which](service.address))
        campaign.note("A5", "recovered_s", took)
        campaign.note("A5", "growth_bytes", service.rss_bytes - before)
        assert took < _RECOVERY_S, told
        assert service.rss_bytes - before < _MAX_GROWTH, told

    campaign.run("A5", case, full=2 * len(FLOODS), short=2 * len(FLOODS))
