"""The names of embedders, and settings of what other engines run: answers, vectors, scores."""

import os
import re
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

EmbedderName = Literal["minilm", "multilingual", "null"]

# As query takes it: it names a folder or a collection of vectors.
_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,126}")
WINDOW_MIN_TOKENS: Final = 32


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an engine openai needs an http(s) URL: AQUIFER_ENGINE_URL, or `url`")
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or not url.isprintable() or " " in url:
        raise ValueError("the URL of an engine has no host and port that can be read")
    # It is shown to operators, and stored as it is.
    if "@" in parts.netloc:
        raise ValueError("the URL of an engine must not have a user or a password; set its key")


class ModelSettings(BaseModel):
    """A model and the engine that runs it.

    `name` is what requests use, by default the model's. `api_key_variable` names a variable of the
    environment, so that the list itself has no secret. `arguments` are further ones of
    `vllm.AsyncEngineArgs`.

    Engines with the same name share its calls by their `weight`; those with weight 0 get one only
    if all others fail.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["openai", "vllm"]
    name: str = ""
    url: str = ""
    model: str = ""
    api_key_variable: str = ""
    api_key: SecretStr = Field(default=SecretStr(""), exclude=True)
    arguments: dict[str, Any] = Field(default_factory=dict)
    concurrency: int = Field(64, ge=1, le=4_096)
    weight: int = Field(default=1, ge=0, le=1_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.engine == "openai":
            _check_url(self.url)
        if self.engine == "vllm" and not self.model:
            raise ValueError("an engine vllm needs a model: AQUIFER_ENGINE_MODEL, or `model`")
        if self.api_key_variable and self.api_key_variable not in os.environ:
            raise ValueError(f"the variable {self.api_key_variable} of an engine's key is not set")
        return self

    @property
    def public_name(self) -> str:
        """What requests use: `name`, or the last part of the model's name; empty: as the server."""
        return self.name or self.model.rstrip("/").rpartition("/")[2]

    @property
    def key(self) -> str:
        """The key of its server; empty: none."""
        return os.environ.get(self.api_key_variable, "") or self.api_key.get_secret_value()


class EngineSettings(ModelSettings):
    """An engine that writes answers; as the variables AQUIFER_ENGINE_* of the same names.

    The rest is for `vllm`: `tool_parser` and `reasoning_parser` are the names of vLLM's parsers for
    what the model writes, empty for none. `adapters` are LoRA adapters, folders by the names that
    requests use.
    """

    priority: bool = False
    tool_parser: str = ""
    reasoning_parser: str = ""
    adapters: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_vllm(self) -> Self:
        given = {
            "tool_parser": self.tool_parser,
            "reasoning_parser": self.reasoning_parser,
            "adapters": self.adapters,
        }
        named = [name for name, value in given.items() if value]
        if self.engine != "vllm" and named:
            raise ValueError(f"only an engine vllm has {', '.join(named)}; a server has its own")
        if not all(name and folder for name, folder in self.adapters.items()):
            raise ValueError("each of `adapters` needs a name and a folder")
        if self.public_name in self.adapters:
            raise ValueError(f"an adapter has the name of its model, {self.public_name}")
        return self


class PoolingSettings(ModelSettings):
    """An engine that reads texts and writes none.

    For `openai`, `arguments` are added to the body of each request. `max_tokens` is the window of
    the model, `batch_texts` the most texts of one request.

    A token has at least one byte, so a text is split into windows of `max_tokens` bytes if the
    server may cut what is too long for it. `refuses_long_texts` says that it answers with an error
    instead: windows are four times as long then, and halved when it refuses one.
    """

    concurrency: int = Field(8, ge=2, le=256)
    max_tokens: int = Field(0, ge=0, le=1_000_000)
    batch_texts: int = Field(32, ge=1, le=256)
    refuses_long_texts: bool = False

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if not (self.name or self.model):
            raise ValueError("an engine that embeds or reranks needs a `model`, or a `name`")
        if not _PROFILE.fullmatch(self.public_name):
            raise ValueError(
                f"{self.public_name!r} cannot be the name of a model: set `name`, of letters,"
                " digits, and . _ @ - after the first"
            )
        if 0 < self.max_tokens < WINDOW_MIN_TOKENS:
            raise ValueError(f"`max_tokens` has to be {WINDOW_MIN_TOKENS} or more")
        return self


class EmbeddingSettings(PoolingSettings):
    """An engine that embeds; `name` is that of its profile, which is stored with the vectors.

    One of its `concurrency` calls is kept for texts that someone waits for. `dimensions` are asked
    of the model at start if they are not set. The prefixes are put before each question and
    passage, as the publisher of the model tells. `batch_tokens` is about the most tokens of one
    request.
    """

    dimensions: int = Field(0, ge=0, le=4_096)
    question_prefix: str = Field("", max_length=1_000)
    passage_prefix: str = Field("", max_length=1_000)
    batch_tokens: int = Field(8_192, ge=16, le=1_000_000)


class RerankerSettings(PoolingSettings):
    """An engine that scores texts by how well they answer a question."""
