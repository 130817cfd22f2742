"""Settings of inference, read once from variables AQUIFER_*."""

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from chassis.base.settings import ServiceSettings
from inference.engine_settings import EmbedderName, EngineSettings

EMBEDDERS = frozenset(get_args(EmbedderName))


class Settings(ServiceSettings):
    """Settings of `serve`."""

    embedder: EmbedderName = Field(
        "minilm",
        description="embeds uploads, and what names no profile; multilingual knows all languages;"
        " null: hashes instead of vectors, to measure everything except the model",
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
    engine_arguments: dict[str, Any] = Field(
        default_factory=dict, description="JSON: further arguments of vllm.AsyncEngineArgs"
    )
    engine_api_key: SecretStr = Field(SecretStr(""), description="its key; empty: none")
    engine_concurrency: int = Field(64, ge=1, le=4_096, description="calls of it at once")
    engine_priority: bool = Field(
        default=False,
        description="send priorities; vLLM wants --scheduling-policy priority for that",
    )
    engines: list[EngineSettings] = Field(
        default_factory=list,
        description="JSON list of several engines, the default first, in place of the settings"
        " above; those with the same name share its calls",
    )

    @field_validator("more_embedders")
    @classmethod
    def _check_names(cls, value: str) -> str:
        unknown = {*filter(None, value.split(","))} - EMBEDDERS
        if unknown:
            raise ValueError(f"no embedder is called {', '.join(sorted(unknown))}")
        return value

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engines and self.engine != "extractive":
            raise ValueError("AQUIFER_ENGINES takes the place of AQUIFER_ENGINE; set one of them")
        _ = self.all_engines
        return self

    @property
    def all_engines(self) -> Sequence[EngineSettings]:
        """Every engine that writes, the default first."""
        if self.engine == "extractive":
            return self.engines
        return [
            EngineSettings(
                engine=self.engine,
                url=self.engine_url,
                model=self.engine_model,
                api_key=self.engine_api_key,
                arguments=self.engine_arguments,
                concurrency=self.engine_concurrency,
                priority=self.engine_priority,
            )
        ]

    @property
    def embedders(self) -> Sequence[str]:
        """Every embedder to open, the default first."""
        return list(dict.fromkeys([self.embedder, *filter(None, self.more_embedders.split(","))]))
