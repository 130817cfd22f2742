"""What a model that is loaded while inference runs is, and its validation."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError
from inference.domain import ModelKind
from inference.engine_settings import (
    EmbeddingSettings,
    EngineSettings,
    ModelSettings,
    RerankerSettings,
)

ENGINES_MAX: Final = 16
DESCRIPTION_MAX_CHARS: Final = 1_000
REVISION_MAX_CHARS: Final = 200
LICENCE_MAX_CHARS: Final = 100
KEY_MAX_CHARS: Final = 4_096
URL_MAX_CHARS: Final = 2_048
ARGUMENTS_MAX_CHARS: Final = 8_192
# The alias for requests that name no model.
DEFAULT: Final = "default"

SETTINGS: Final[Mapping[ModelKind, type[ModelSettings]]] = {
    ModelKind.GENERATE: EngineSettings,
    ModelKind.EMBED: EmbeddingSettings,
    ModelKind.RERANK: RerankerSettings,
}
# What concerns speed and memory alone. Others choose files or code to run, which a caller may not.
VLLM_ARGUMENTS: Final = frozenset(
    {
        "data_parallel_size",
        "dtype",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "pipeline_parallel_size",
        "quantization",
        "tensor_parallel_size",
    }
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,126}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefinition:
    """A model, and the engines that run it; see `LoadModelRequest`.

    Each of `engines` has the type that `SETTINGS` gives for `kind`, and the model's name.
    """

    name: str
    kind: ModelKind
    engines: Sequence[ModelSettings]
    description: str = ""
    licence: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.name == DEFAULT:
            raise invalid("name", f"must not be {DEFAULT!r}, which is an alias")
        limits = {
            "description": DESCRIPTION_MAX_CHARS,
            "licence": LICENCE_MAX_CHARS,
            "revision": REVISION_MAX_CHARS,
        }
        for name, most in limits.items():
            if len(getattr(self, name)) > most:
                raise invalid(name, f"must have at most {most:,} characters")
        if not 0 < len(self.engines) <= ENGINES_MAX:
            raise invalid("engines", f"must be 1 to {ENGINES_MAX}")
        for number, engine in enumerate(self.engines):
            _check_engine(f"engines[{number}]", engine)
        if not any(engine.weight for engine in self.engines):
            raise invalid("engines", "must have one with a weight above 0")
        runs_here = any(engine.engine == "vllm" for engine in self.engines)
        if runs_here and len(self.engines) > 1:
            raise invalid("engines", "must be one alone if vLLM runs the model in this process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """All models to be loaded, and all aliases, by name.

    `problems` says by name what is wrong with definitions that cannot be used.
    """

    models: Mapping[str, ModelDefinition]
    aliases: Mapping[str, str]
    problems: Mapping[str, str]


def check_name(field: str, name: str, reason: str = "MODEL_INVALID") -> None:
    """Check a name of a model, or an alias.

    Raises:
        InvalidInputError: `reason`.
    """
    if not _NAME.fullmatch(name):
        raise invalid(field, f"must match {_NAME.pattern}", reason)


def invalid(field: str, why: str, reason: str = "MODEL_INVALID") -> InvalidInputError:
    """The error for a field that is not as it must be."""
    return InvalidInputError(reason, f"{field} {why}", fields=[FieldViolation(field, why)])


def _check_engine(field: str, engine: ModelSettings) -> None:
    if len(engine.key) > KEY_MAX_CHARS or not engine.key.isprintable():
        raise invalid(f"{field}.api_key", f"must be one line of at most {KEY_MAX_CHARS} characters")
    if max(len(engine.url), len(engine.model)) > URL_MAX_CHARS:
        raise invalid(field, f"must have a URL and a model of at most {URL_MAX_CHARS} characters")
    if len(json.dumps(engine.arguments)) > ARGUMENTS_MAX_CHARS:
        raise invalid(
            f"{field}.arguments", f"must have at most {ARGUMENTS_MAX_CHARS:,} characters of JSON"
        )
    if engine.engine == "vllm":
        if "/" in engine.model or engine.model.startswith("."):
            raise invalid(f"{field}.model", "must be the name of a folder, without a path")
        if refused := engine.arguments.keys() - VLLM_ARGUMENTS:
            raise invalid(
                f"{field}.arguments",
                f"must not have {', '.join(sorted(refused))}; there may be"
                f" {', '.join(sorted(VLLM_ARGUMENTS))}",
            )
