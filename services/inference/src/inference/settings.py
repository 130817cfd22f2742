"""Settings of inference, read once from variables AQUIFER_*."""

from typing import Literal

from pydantic import Field

from chassis.base.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of `serve`."""

    embedder: Literal["minilm", "null"] = Field(
        "minilm",
        description="null: hashes instead of vectors, to measure everything except the model",
    )
