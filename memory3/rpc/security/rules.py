"""The table of all methods: the role that each needs, and where its request names the bank.

A method without a row is refused to everybody, and a test compares the rows with the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from memory3.rpc.security.roles import Role


@dataclass(frozen=True)
class Rule:
    """What a method needs.

    Attributes:
        role: The role.
        banks: Fields of the request that name banks, dotted; the role is needed on each.
        all_banks: The role is needed on every bank. So it is for what is kept apart from banks,
            such as snapshots, whose names do not say whose they are.
    """

    role: Role
    banks: tuple[str, ...] = ()
    all_banks: bool = False

    def named(self, request: Any) -> list[str]:
        """The banks that a request names."""
        return [name for field in self.banks if (name := _read(request, field))]


def _read(request: Any, field: str) -> str:
    value = request
    for part in field.split("."):
        value = getattr(value, part, "")
    return value if isinstance(value, str) else ""


_READ, _WRITE, _ADMIN = Role.READER, Role.WRITER, Role.ADMIN

_ENCODER: Final = {
    "Encode": Rule(_WRITE),
    "Embed": Rule(_READ),
    "GetInfo": Rule(_READ),
}

_RETRIEVER: Final = {
    "CreateBank": Rule(_ADMIN, ("bank.name",)),
    "GetBank": Rule(_READ, ("name",)),
    "ListBanks": Rule(_READ),
    "DeleteBank": Rule(_ADMIN, ("name",)),
    "VerifyBank": Rule(_ADMIN, ("name",)),
    "SnapshotBank": Rule(_ADMIN, ("name",)),
    "RestoreBank": Rule(_ADMIN, ("name",), all_banks=True),
    "AddDocuments": Rule(_WRITE, ("bank",)),
    "AddReferences": Rule(_WRITE, ("bank",)),
    "GetReference": Rule(_READ, ("bank",)),
    "ListReferences": Rule(_READ, ("bank",)),
    "ListSources": Rule(_READ, ("bank",)),
    "DeleteReferences": Rule(_WRITE, ("bank",)),
    "Search": Rule(_READ, ("bank",)),
    "Retrieve": Rule(_READ, ("bank",)),
    "GetInfo": Rule(_READ),
}

_BANK_ADMIN: Final = {
    "UpdateBank": Rule(_ADMIN, ("bank.name",)),
    "SetAlias": Rule(_ADMIN, ("name", "bank", "expected_bank")),
    "DeleteAlias": Rule(_ADMIN, ("name",)),
    "ListAliases": Rule(_READ),
    "WarmBank": Rule(_ADMIN, ("name",)),
    "ReencodeBank": Rule(_ADMIN, ("source", "target.name")),
    "EraseReferences": Rule(_ADMIN, ("bank",)),
    "CompactBank": Rule(_ADMIN, ("name",)),
    "RepairBank": Rule(_ADMIN, ("name",)),
    "ListSnapshots": Rule(_ADMIN, ("bank",), all_banks=True),
    "VerifySnapshot": Rule(_ADMIN, all_banks=True),
    "DeleteSnapshot": Rule(_ADMIN, all_banks=True),
    "DownloadSnapshot": Rule(_ADMIN, all_banks=True),
    "UploadSnapshot": Rule(_ADMIN, all_banks=True),
    "PublishBank": Rule(_ADMIN, ("name",)),
}

_DECODER: Final = {
    "Generate": Rule(_READ, ("bank",)),
    "Score": Rule(_READ, ("bank",)),
    "Tokenize": Rule(_READ),
    "Detokenize": Rule(_READ),
    "GetInfo": Rule(_READ),
}

RULES: Final[dict[str, Rule]] = {
    f"/memory3.v1.{service}/{method}": rule
    for service, rules in {
        "EncoderService": _ENCODER,
        "RetrieverService": _RETRIEVER,
        "BankAdminService": _BANK_ADMIN,
        "DecoderService": _DECODER,
    }.items()
    for method, rule in rules.items()
}
