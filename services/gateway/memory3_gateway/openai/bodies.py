"""The bodies that OpenAI's interface takes, checked for shape; ranges are the decoder's to check.

A parameter that this model cannot obey is refused by name, unless it asks for what happens anyway;
one that changes nothing in the answer is read and dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator
from pydantic_core import PydanticCustomError

# What stands here may be said: it asks for nothing that would not happen anyway.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "best_of": (None, 1),
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None,),
    "web_search_options": (None,),
}
# Said for the bookkeeping of whoever runs the service, not for the answer.
_IGNORED: Final = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
)  # fmt: skip

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Body(BaseModel):
    """What all bodies have in common: no parameter is overlooked in silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, neutral in _NEUTRAL.items():
            if name in given and given[name] not in neutral:
                raise PydanticCustomError(
                    "unsupported_parameter", "{param} is not supported by this model",
                    {"param": name},
                )  # fmt: skip
        left_out = {*_NEUTRAL, *_IGNORED}
        return {name: value for name, value in given.items() if name not in left_out}


class Memory(BaseModel):
    """How memories are used: the body's field ``memory3``, an extension."""

    model_config = ConfigDict(extra="forbid")

    bank: StrictStr | None = Field(
        default=None, description="The bank to read; wins over the model's."
    )
    num_references: StrictInt | None = Field(
        default=None, description="Memories for each chunk, up to the checkpoint's number."
    )
    reference_ids: list[StrictStr] | None = Field(
        default=None, description="Attached to every chunk instead of what a search finds."
    )
    filter: StrictStr | list[StrictStr] | None = Field(
        default=None,
        description="Conditions on metadata such as lang=de. References are searched for once, "
        "with the last question, and attached to every chunk.",
    )
    strict: StrictBool = Field(
        default=False,
        description="Fail with 503 where memories cannot be had, instead of going on.",
    )
    report: StrictBool = Field(
        default=True, description="Tell the attention that each reference got."
    )
    with_references: StrictBool = Field(
        default=False, description="Tell text and origin of each reference."
    )
    retrieval_timeout: Number | None = Field(
        default=None, gt=0, description="Seconds that one retrieval may take."
    )


class StreamOptions(BaseModel):
    """How an answer is streamed."""

    model_config = ConfigDict(extra="forbid")

    include_usage: StrictBool = False
    include_obfuscation: StrictBool = False


class Sampling(Body):
    """How tokens are chosen; what is left out is the decoder's default."""

    model: StrictStr = Field(description="A model of /v1/models, or NAME:BANK.")
    max_tokens: StrictInt | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    n: StrictInt | None = None
    stop: StrictStr | list[StrictStr] | None = None
    seed: StrictInt | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    # The decoder's own, under the names that other servers of this interface use.
    min_tokens: StrictInt | None = None
    top_k: StrictInt | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    stop_token_ids: list[StrictInt] | None = None
    ignore_eos: StrictBool | None = None
    memory3: Memory = Field(default_factory=Memory, description="Use of memories.")

    @model_validator(mode="after")
    def _streamed(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "invalid_field", "{param} needs stream = true", {"param": "stream_options"}
            )
        return self


class CompletionBody(Sampling):
    """The body of ``POST /v1/completions``."""

    prompt: StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]] = ""
    logprobs: StrictInt | None = None
    echo: StrictBool | None = None


class TextPart(BaseModel):
    """A part of a message's content; only text can be read."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: StrictStr


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: StrictStr | list[TextPart]
    name: StrictStr | None = None

    @property
    def text(self) -> str:
        """What is said, its parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class ChatBody(Sampling):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: StrictInt | None = None
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError(
                "invalid_field", "{param} needs logprobs = true", {"param": "top_logprobs"}
            )
        return self


class EmbeddingMemory(BaseModel):
    """The extension of ``/v1/embeddings``: what the texts are."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["query", "reference"] = "query"


class EmbeddingBody(Body):
    """The body of ``POST /v1/embeddings``."""

    model: StrictStr
    input: StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: StrictInt | None = None
    memory3: EmbeddingMemory = Field(default_factory=EmbeddingMemory)
