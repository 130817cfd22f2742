"""Opens the models that are loaded while inference runs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from chassis.base.errors import FailedPreconditionError
from inference.domain import ModelKind
from inference.engine_settings import (
    EmbeddingSettings,
    EngineSettings,
    ModelSettings,
    RerankerSettings,
)
from inference.engines.embedders import open_embedding_engine
from inference.engines.registry import open_generator, open_reranker
from inference.model_definition import ModelDefinition
from inference.ports import Model

S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens a model by its definition.

    `model_folder` has the models that vLLM runs in this process; empty: there are none.
    """

    model_folder: str
    otlp_endpoint: str

    @asynccontextmanager
    async def open(self, definition: ModelDefinition) -> AsyncIterator[Model]:
        """The model, open; leaving the context closes it.

        Raises:
            FailedPreconditionError: MODEL_FOLDER_OFF, MODEL_MISSING; as `open_generator`.
        """
        match definition.kind:
            case ModelKind.GENERATE:
                opened = open_generator(
                    self._engines(definition, EngineSettings), self.otlp_endpoint
                )
                async with opened as generator:
                    yield generator
            case ModelKind.EMBED:
                engines = self._engines(definition, EmbeddingSettings)
                async with open_embedding_engine(engines, self.otlp_endpoint) as embedder:
                    yield embedder
            case ModelKind.RERANK:
                scorers = self._engines(definition, RerankerSettings)
                async with open_reranker(scorers, self.otlp_endpoint) as reranker:
                    yield reranker

    def _engines(self, definition: ModelDefinition, kind: type[S]) -> Sequence[S]:
        """Its engines, with the folder of a model that runs in this process."""
        found = [engine for engine in definition.engines if isinstance(engine, kind)]
        assert len(found) == len(definition.engines), "a definition has the settings of its kind"
        return [self._place(engine) if engine.engine == "vllm" else engine for engine in found]

    def _place(self, engine: S) -> S:
        if not self.model_folder:
            raise FailedPreconditionError(
                "MODEL_FOLDER_OFF", "AQUIFER_MODEL_FOLDER of this process is not set"
            )
        folder = Path(self.model_folder) / engine.model
        if not folder.is_dir():
            raise FailedPreconditionError(
                "MODEL_MISSING",
                f"the folder that AQUIFER_MODEL_FOLDER names has no model {engine.model!r} on this"
                " node",
                model=engine.model,
            )
        return engine.model_copy(update={"model": str(folder)})
