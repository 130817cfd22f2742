"""A model that a server lists: its name there, its window, and what kind of server that is."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from chassis.base.errors import FailedPreconditionError, ServiceError
from inference.domain import ModelServer
from inference.engine_settings import WINDOW_MIN_TOKENS, PoolingSettings
from inference.engines.admission import Admission
from inference.engines.openai.chat import Flavour, find_flavour
from inference.engines.openai.upstream import Upstream, open_client

ENGINE: Final = "openai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model of a server.

    `model` is its name there, `name` the one that requests use. `context_tokens` is 0, and
    `revision` empty, where the server tells none.
    """

    upstream: Upstream
    name: str
    model: str
    flavour: Flavour
    context_tokens: int
    revision: str

    @property
    def host(self) -> str:
        """Of the server."""
        return self.upstream.client.base_url.host

    @property
    def servers(self) -> Sequence[ModelServer]:
        """The server, and whether its latest call did not fail."""
        healthy = not self.upstream.breaker.failures
        return [ModelServer(address=self.upstream.client.base_url.netloc.decode(), healthy=healthy)]

    def window_tokens(self, settings: PoolingSettings) -> int:
        """The longest text in tokens, as it was set, or as the server tells it.

        Raises:
            FailedPreconditionError: ENGINE_NOT_READY, neither does.
        """
        tokens = settings.max_tokens or self.context_tokens
        if tokens < WINDOW_MIN_TOKENS:
            raise FailedPreconditionError(
                "ENGINE_NOT_READY",
                f"the server at {self.host} does not say how many tokens {self.model!r} reads; set"
                " `max_tokens` of this engine, or start the server first",
                model=self.model,
            )
        return tokens

    @property
    def engine(self) -> str:
        """For people: `openai`, and what kind of server it is."""
        return ENGINE if self.flavour is Flavour.OTHER else f"{ENGINE} ({self.flavour.value})"


@asynccontextmanager
async def open_served(
    base_url: str, *, name: str, model: str, api_key: str, concurrency: int
) -> AsyncIterator[Served]:
    """A model of a server, or the first that it lists; requests use `name`, or the model's own.

    With `model`, the server may still be starting.

    Raises:
        FailedPreconditionError: ENGINE_NOT_READY, no model was given and the server lists none.
    """
    async with open_client(base_url, api_key, concurrency) as client:
        upstream = Upstream(client, Admission(name or model, concurrency))
        listed = await _list_models(upstream, is_needed=not model)
        found = next((one for one in listed if model in ("", one.get("id"))), {})
        model = model or str(found.get("id"))
        name = upstream.admission.model = name or model
        context = found.get("max_model_len") or (found.get("meta") or {}).get("n_ctx")
        yield Served(
            upstream=upstream,
            name=name,
            model=model,
            flavour=find_flavour(found.get("owned_by")),
            context_tokens=context if isinstance(context, int) else 0,
            revision=str(found.get("created") or ""),
        )


async def _list_models(upstream: Upstream, *, is_needed: bool) -> list[dict[str, Any]]:
    try:
        listed = (await upstream.get("models")).get("data")
    except ServiceError as error:
        if is_needed:
            raise _not_ready(f"{error.detail} ({error.reason})") from error
        return []
    models = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if is_needed and not any(isinstance(one.get("id"), str) for one in models):
        raise _not_ready("it lists no model")
    return models


def _not_ready(why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        "ENGINE_NOT_READY",
        f"the engine's server does not say which models it has: {why}; start it first, or name the"
        " model (AQUIFER_ENGINE_MODEL, or `model` in a list of engines)",
    )
