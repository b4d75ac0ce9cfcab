"""The bodies that the page's own interface takes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictStr


class BankBody(BaseModel):
    """A bank to make."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr = Field(description="Letters, digits and hyphens, a letter first.")
    description: StrictStr = ""


class DocumentBody(BaseModel):
    """A text to add; the retriever splits it into references."""

    model_config = ConfigDict(extra="forbid")

    text: StrictStr
    source: StrictStr = ""
    title: StrictStr = ""
    metadata: dict[str, StrictStr] = Field(default_factory=dict)


class CorrectionBody(BaseModel):
    """What a reference is to say from now on."""

    model_config = ConfigDict(extra="forbid")

    text: StrictStr
