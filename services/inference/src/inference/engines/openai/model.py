"""A model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a hosted one."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from typing_extensions import override

from chassis.base.errors import FailedPreconditionError, ServiceError, UnavailableError
from inference.domain import Capability, Lane, ModelCard, ModelKind
from inference.engines.admission import Admission, Demand
from inference.engines.openai.chat import (
    AnswerReader,
    Flavour,
    find_flavour,
    to_body,
)
from inference.engines.openai.events import read_events
from inference.engines.openai.upstream import Upstream, open_client, to_error
from inference.engines.prompt import to_texts
from inference.engines.spans import generation_span, note_finish
from inference.generation import Finish, Generation, Step
from inference.ports import Generator, TokenCounter

ENGINE: Final = "openai"
# vLLM serves lower numbers first; without one it is 0.
BULK_PRIORITY: Final = 1
CHARACTERS_A_TOKEN: Final = 4
# Where a server counts tokens, beside its API of OpenAI.
COUNTING: Final = {Flavour.VLLM, Flavour.LLAMA_CPP}


class OpenAiModel(Generator, TokenCounter):
    """See `Generator`; one model of one server.

    Args:
        upstream: the server.
        model: its name there.
        card: of the model, with the name that requests use.
        flavour: of the server.
        send_priority: whether the server has priorities; vLLM refuses them unless it was started
            with `--scheduling-policy priority`.
    """

    def __init__(
        self,
        upstream: Upstream,
        model: str,
        card: ModelCard,
        flavour: Flavour,
        *,
        send_priority: bool,
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._card = card
        self._flavour = flavour
        self._send_priority = send_priority

    @property
    @override
    def card(self) -> ModelCard:
        return self._card

    @override
    async def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        body = to_body(request, self._model, self._flavour)
        if self._send_priority and request.lane is Lane.BULK:
            body["priority"] = BULK_PRIORITY
        reader = AnswerReader()
        host = {"server.address": self._upstream.client.base_url.host}
        provider = self._flavour.value
        with generation_span(self._card.name, provider, request, **host) as (span, headers):
            stream = self._upstream.stream("chat/completions", body, headers, _demand(request))
            async with stream as response:
                async for event in read_events(response):
                    _check(event)
                    for step in reader.read(event):
                        yield step
            for step in reader.finish():
                if isinstance(step, Finish):
                    note_finish(span, step)
                yield step

    @override
    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        return [await self._count(text) for text in texts]

    async def _count(self, text: str) -> int:
        if self._flavour is Flavour.VLLM:
            body = {"model": self._model, "prompt": text, "add_special_tokens": False}
            count = (await self._upstream.post("../tokenize", body, {})).get("count")
        else:
            body = {"content": text, "add_special": False}
            tokens = (await self._upstream.post("../tokenize", body, {})).get("tokens")
            count = len(tokens) if isinstance(tokens, list) else None
        if not isinstance(count, int):
            raise UnavailableError("ENGINE_OUTPUT", "the engine did not count the tokens")
        return count


def _demand(request: Generation) -> Demand:
    """The tokens are a guess: the tokenizer is the server's."""
    characters = sum(map(len, to_texts(request)))
    return Demand(tenant=request.tenant, lane=request.lane, tokens=characters // CHARACTERS_A_TOKEN)


def _check(event: Mapping[str, Any]) -> None:
    """Raises the error that an event is: some servers send one in the middle of a stream."""
    error = event.get("error")
    if not error:
        return
    code, said = HTTPStatus.INTERNAL_SERVER_ERROR.value, str(error)
    if isinstance(error, dict):
        said = str(error.get("message") or error)
        given = error.get("code")
        code = given if isinstance(given, int) else code
    raise to_error(code, said)


@asynccontextmanager
async def open_model(
    base_url: str,
    *,
    name: str = "",
    model: str = "",
    api_key: str = "",
    concurrency: int = 64,
    send_priority: bool = False,
) -> AsyncIterator[OpenAiModel]:
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
        flavour = find_flavour(found.get("owned_by"))
        card = _card(name, found, flavour)
        yield OpenAiModel(upstream, model, card, flavour, send_priority=send_priority)


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
        f"the engine at AQUIFER_ENGINE_URL does not say which models it has: {why}; start it first,"
        " or name the model with AQUIFER_ENGINE_MODEL",
    )


def _card(name: str, found: Mapping[str, Any], flavour: Flavour) -> ModelCard:
    context = found.get("max_model_len") or (found.get("meta") or {}).get("n_ctx")
    can = {Capability.GENERATE, Capability.TOOLS, Capability.STRUCTURED_OUTPUT}
    if flavour in COUNTING:
        can.add(Capability.COUNT_TOKENS)
    return ModelCard(
        name=name,
        kind=ModelKind.GENERATE,
        engine=ENGINE if flavour is Flavour.OTHER else f"{ENGINE} ({flavour.value})",
        generative=True,
        description="a model behind an OpenAI-compatible server",
        revision=str(found.get("created") or ""),
        capabilities=frozenset(can),
        context_tokens=context if isinstance(context, int) else 0,
    )
