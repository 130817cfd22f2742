"""Settings of inference, read once from variables AQUIFER_*."""

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

from pydantic import (
    Field,
    SecretStr,
    model_validator,
)

from chassis.base.settings import ServiceSettings
from inference.engine_settings import (
    EmbedderName,
    EmbeddingSettings,
    EngineSettings,
    RerankerSettings,
)

EMBEDDERS = frozenset(get_args(EmbedderName))
# Names of models that are here without any setting.
OURS = EMBEDDERS | {"extractive", "minilm-l6-v2", "multilingual-e5-small-q4"}


class Settings(ServiceSettings):
    """Settings of `serve`."""

    embedder: str = Field(
        "minilm",
        description="embeds uploads, and what names no profile; multilingual knows all languages;"
        " null: hashes instead of vectors, to measure everything except the model; or the name of"
        " an embedding engine",
    )
    more_embedders: str = Field(
        "", description="further embedders, separated by commas, for calls that name their profile"
    )
    embedding_engines: list[EmbeddingSettings] = Field(
        default_factory=list,
        description="JSON list of embedding models that other engines run; all of them are opened,"
        " and those with the same name share its calls",
    )
    rerankers: list[RerankerSettings] = Field(
        default_factory=list,
        description="JSON list of rerankers that other engines run, for calls that name them;"
        " those with the same name share its calls",
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
    engine_tool_parser: str = Field(
        "", description="vLLM's parser of the functions that the model calls; empty: it calls none"
    )
    engine_reasoning_parser: str = Field(
        "", description="vLLM's parser of the model's reasoning; empty: reasoning is text"
    )
    engine_adapters: dict[str, str] = Field(
        default_factory=dict, description="JSON: folders of LoRA adapters for vLLM, by their names"
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

    model_folder: str = Field(
        "", description="folder with models that LoadModel may let vLLM run here; empty: none"
    )
    credential_key: SecretStr = Field(
        SecretStr(""),
        description="encrypts keys of servers that LoadModel stores, 32 bytes in base64, the same"
        " for all replicas; empty: such keys are refused",
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        embedders = {one.public_name for one in self.embedding_engines}
        rerankers = {one.public_name for one in self.rerankers}
        taken = (embedders & rerankers) | (OURS & (embedders | rerankers))
        if taken:
            raise ValueError(
                f"two models are called {', '.join(sorted(taken))}; set another `name` in"
                " AQUIFER_EMBEDDING_ENGINES or AQUIFER_RERANKERS"
            )
        known = EMBEDDERS | embedders
        if unknown := {*self.embedders} - known:
            raise ValueError(
                f"no embedder is called {', '.join(sorted(unknown))}; there are"
                f" {', '.join(sorted(known))}, and AQUIFER_EMBEDDING_ENGINES adds more"
            )
        return self

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
                tool_parser=self.engine_tool_parser,
                reasoning_parser=self.engine_reasoning_parser,
                adapters=self.engine_adapters,
                concurrency=self.engine_concurrency,
                priority=self.engine_priority,
            )
        ]

    @property
    def embedders(self) -> Sequence[str]:
        """Every embedder that is offered, the default first."""
        more = filter(None, self.more_embedders.split(","))
        engines = (one.public_name for one in self.embedding_engines)
        return list(dict.fromkeys([self.embedder, *more, *engines]))

    @property
    def local_embedders(self) -> Sequence[str]:
        """Those to open that need no other engine; there is one at least, for quotes."""
        return [name for name in self.embedders if name in EMBEDDERS] or ["minilm"]

    @property
    def uses_vllm(self) -> bool:
        """Whether vLLM runs a model here."""
        models = (*self.all_engines, *self.embedding_engines, *self.rerankers)
        return any(one.engine == "vllm" for one in models)
