"""The method that publishes a bank for readers to follow."""

from __future__ import annotations

import time

import grpc
from google.protobuf.duration_pb2 import Duration

from memory3.errors import FailedPreconditionError
from memory3.v1 import bank_admin_pb2, bank_admin_pb2_grpc
from memory3_retriever.servicer_base import LoadedServicer


class PublishMethod(LoadedServicer, bank_admin_pb2_grpc.BankAdminServiceServicer):
    """Publish a bank."""

    def PublishBank(
        self, request: bank_admin_pb2.PublishBankRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.PublishBankResponse:
        """See the proto."""
        bank, publisher = self._bank(request.name, "name"), self._loaded().publisher
        if publisher is None:
            raise FailedPreconditionError(
                "this retriever publishes nothing",
                field="publish",
                remedy="start it with --publish and the storage that readers follow",
            )
        began = time.monotonic()
        published = publisher.publish(bank)
        took = Duration()
        took.FromNanoseconds(int((time.monotonic() - began) * 1e9))
        return bank_admin_pb2.PublishBankResponse(
            generation=published.number,
            revision=published.revision,
            size_bytes=published.size_bytes,
            publish_duration=took,
        )
