"""The knobs of inference, read once from variables named AQUIFER_*."""

from typing import Literal

from pydantic import Field

from chassis.base.settings import ServiceSettings


class Settings(ServiceSettings):
    """What `serve` needs."""

    embedder: Literal["minilm", "null"] = Field(
        "minilm", description="null: vectors without meaning, to measure everything around them"
    )
