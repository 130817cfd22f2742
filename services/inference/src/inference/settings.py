"""Settings of inference, read once from variables AQUIFER_*."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

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

    @field_validator("more_embedders")
    @classmethod
    def _check_names(cls, value: str) -> str:
        unknown = {*filter(None, value.split(","))} - EMBEDDERS
        if unknown:
            raise ValueError(f"no embedder is called {', '.join(sorted(unknown))}")
        return value

    @property
    def embedders(self) -> Sequence[str]:
        """Every embedder to open, the default first."""
        return list(dict.fromkeys([self.embedder, *filter(None, self.more_embedders.split(","))]))
