"""What can be wrong with requests of operators, as rows of a table."""

from __future__ import annotations

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from memory3.v1 import bank_admin_pb2 as adm
from memory3.v1 import retriever_pb2 as ret
from tests.integration.bad_bank_requests import named
from tests.integration.bad_requests import BANK, NO_ID, Make, invalid, missing, rows

NO_BANK = "banks/nowhere"


def update(*paths: str, **fields: Any) -> Make:
    """A request to change a bank."""
    bank = ret.Bank(**{"name": BANK, **fields})
    return named(adm.UpdateBankRequest, bank=bank, update_mask=FieldMask(paths=paths))


rows(
    "BankAdminService.UpdateBank",
    invalid("no-name", "bank.name", update("description", name="")),
    missing("missing", "bank.name", update("description", name=NO_BANK)),
    invalid("no-mask", "update_mask", update()),
    invalid("fixed", "update_mask.paths[0]", update("codec")),
    invalid("quota", "bank.quota_bytes", update("quota_bytes", quota_bytes=-1)),
    invalid("durability", "bank.durability", update("durability", durability=9)),
)
rows(
    "BankAdminService.SetAlias",
    invalid("no-name", "name", named(adm.SetAliasRequest, bank=BANK)),
    invalid("no-bank", "bank", named(adm.SetAliasRequest, name="banks/new")),
    missing("missing", "bank", named(adm.SetAliasRequest, name="banks/new", bank=NO_BANK)),
)
rows(
    "BankAdminService.DeleteAlias",
    invalid("no-name", "name", named(adm.DeleteAliasRequest)),
    missing("missing", "name", named(adm.DeleteAliasRequest, name="banks/new")),
)
for _method, _message in (
    ("WarmBank", adm.WarmBankRequest),
    ("CompactBank", adm.CompactBankRequest),
    ("RepairBank", adm.RepairBankRequest),
    ("PublishBank", adm.PublishBankRequest),
):
    rows(
        f"BankAdminService.{_method}",
        invalid("no-name", "name", named(_message)),
        missing("missing", "name", named(_message, name=NO_BANK)),
    )
rows(
    "BankAdminService.ReencodeBank",
    invalid("no-target", "target.name", named(adm.ReencodeBankRequest, source=BANK)),
    missing(
        "missing", "source",
        named(adm.ReencodeBankRequest, source=NO_BANK, target=ret.Bank(name="banks/new")),
    ),
    invalid(
        "itself", "target.name",
        named(adm.ReencodeBankRequest, source=BANK, target=ret.Bank(name=BANK)),
    ),
)  # fmt: skip
rows(
    "BankAdminService.EraseReferences",
    invalid("nothing", "ids", named(adm.EraseReferencesRequest, bank=BANK)),
    invalid("id", "ids[0]", named(adm.EraseReferencesRequest, bank=BANK, ids=["x"])),
    missing("missing", "bank", named(adm.EraseReferencesRequest, bank=NO_BANK, ids=[NO_ID])),
)
rows(
    "BankAdminService.ListSnapshots",
    invalid("page-size", "page_size", named(adm.ListSnapshotsRequest, page_size=-1)),
    invalid("page-token", "page_token", named(adm.ListSnapshotsRequest, page_token="?")),
)
for _method, _message in (
    ("VerifySnapshot", adm.VerifySnapshotRequest),
    ("DeleteSnapshot", adm.DeleteSnapshotRequest),
    ("DownloadSnapshot", adm.DownloadSnapshotRequest),
):
    rows(
        f"BankAdminService.{_method}",
        invalid("path", "snapshot", named(_message, snapshot="../kept")),
        missing("missing", "snapshot", named(_message, snapshot="none")),
    )
rows(
    "BankAdminService.UploadSnapshot",
    invalid("data-first", "snapshot", named(adm.UploadSnapshotRequest, data=b"x")),
    invalid(
        "time", "snapshot.create_time",
        named(
            adm.UploadSnapshotRequest,
            snapshot=ret.Snapshot(
                id="up", bank=BANK, sha256="0" * 64, checkpoint_digest="0" * 64,
                create_time=Timestamp(nanos=-1),
            ),
        ),
    ),
)  # fmt: skip
