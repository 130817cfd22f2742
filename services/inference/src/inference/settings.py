"""Settings of inference, read once from variables AQUIFER_*."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from chassis.base.settings import ServiceSettings

EMBEDDERS = {"minilm", "null"}


class Settings(ServiceSettings):
    """Settings of `serve`."""

    embedder: Literal["minilm", "null"] = Field(
        "minilm",
        description="embeds uploads, and what names no profile; null: hashes instead of vectors, to"
        " measure everything except the model",
    )
    more_embedders: str = Field(
        "", description="further embedders, separated by commas, for calls that name their profile"
    )
    engine: Literal["extractive", "openai", "vllm"] = Field(
        "extractive",
        description="answers questions; extractive quotes, openai is a model of a server that"
        " speaks OpenAI's protocol, vllm a model that vLLM runs here",
    )
    engine_url: str = Field("", description="of that server, with its version: http://host:8000/v1")
    engine_model: str = Field(
        "", description="model of the engine; openai: empty for the first that the server lists"
    )
    engine_arguments: str = Field(
        "", description="JSON object: further arguments of vllm.AsyncEngineArgs"
    )
    engine_api_key: SecretStr = Field(SecretStr(""), description="its key; empty: none")
    engine_concurrency: int = Field(64, ge=1, le=4_096, description="calls of it at once")
    engine_priority: bool = Field(
        default=False,
        description="send priorities; vLLM wants --scheduling-policy priority for that",
    )

    @field_validator("more_embedders")
    @classmethod
    def _check_names(cls, value: str) -> str:
        unknown = {*filter(None, value.split(","))} - EMBEDDERS
        if unknown:
            raise ValueError(f"no embedder is called {', '.join(sorted(unknown))}")
        return value

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if self.engine == "openai" and not self.engine_url.startswith(("http://", "https://")):
            raise ValueError("AQUIFER_ENGINE_URL must be an http(s) URL with AQUIFER_ENGINE=openai")
        if self.engine == "vllm" and not self.engine_model:
            raise ValueError("AQUIFER_ENGINE_MODEL must name a model with AQUIFER_ENGINE=vllm")
        return self

    @property
    def embedders(self) -> Sequence[str]:
        """Every embedder to open, the default first."""
        return list(dict.fromkeys([self.embedder, *filter(None, self.more_embedders.split(","))]))
