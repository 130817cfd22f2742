"""The names of embedders, and the settings of one engine that writes answers."""

import os
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

EmbedderName = Literal["minilm", "multilingual", "null"]


class EngineSettings(BaseModel):
    """An engine that writes answers; as the variables AQUIFER_ENGINE_* of the same names.

    `name` is what requests use, by default the model's. Engines with the same name share its calls
    by their `weight`; those with weight 0 get one only if all others fail. `api_key_variable` names
    a variable of the environment, so that the list itself has no secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["openai", "vllm"]
    name: str = ""
    url: str = ""
    model: str = ""
    api_key_variable: str = ""
    api_key: SecretStr = Field(SecretStr(""), exclude=True)
    arguments: dict[str, Any] = Field(default_factory=dict)
    concurrency: int = Field(64, ge=1, le=4_096)
    priority: bool = False
    weight: int = Field(default=1, ge=0, le=1_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.engine == "openai" and not self.url.startswith(("http://", "https://")):
            raise ValueError("an engine openai needs an http(s) URL: AQUIFER_ENGINE_URL, or `url`")
        if self.engine == "vllm" and not self.model:
            raise ValueError("an engine vllm needs a model: AQUIFER_ENGINE_MODEL, or `model`")
        if self.api_key_variable and self.api_key_variable not in os.environ:
            raise ValueError(f"the variable {self.api_key_variable} of an engine's key is not set")
        return self

    @property
    def key(self) -> str:
        """The key of its server; empty: none."""
        return os.environ.get(self.api_key_variable, "") or self.api_key.get_secret_value()
