"""A model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a hosted one."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from typing_extensions import override

from chassis.base.errors import UnavailableError
from inference.domain import Capability, Lane, ModelCard, ModelKind, ModelServer
from inference.engines.admission import Demand
from inference.engines.openai.chat import AnswerReader, Flavour, to_body
from inference.engines.openai.events import read_events
from inference.engines.openai.served import Served, open_served
from inference.engines.openai.upstream import to_error
from inference.engines.prompt import to_texts
from inference.engines.spans import generation_span, note_finish
from inference.generation import Finish, Generation, Step
from inference.ports import Generator, Remote, TokenCounter

# vLLM serves lower numbers first; without one it is 0.
BULK_PRIORITY: Final = 1
CHARACTERS_A_TOKEN: Final = 4
# Where a server counts tokens, beside its API of OpenAI.
COUNTING: Final = {Flavour.VLLM, Flavour.LLAMA_CPP}


class OpenAiModel(Generator, TokenCounter, Remote):
    """See `Generator`; one model of one server.

    `send_priority` tells whether the server has priorities; vLLM refuses them unless it was started
    with `--scheduling-policy priority`.
    """

    def __init__(self, served: Served, *, send_priority: bool) -> None:
        self._served = served
        self._upstream = served.upstream
        self._model = served.model
        self._card = _card(served)
        self._flavour = served.flavour
        self._host = {"server.address": served.host}
        self._send_priority = send_priority

    @property
    @override
    def card(self) -> ModelCard:
        return self._card

    @property
    @override
    def servers(self) -> Sequence[ModelServer]:
        return self._served.servers

    @override
    async def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        body = to_body(request, self._model, self._flavour)
        if self._send_priority and request.lane is Lane.BULK:
            body["priority"] = BULK_PRIORITY
        reader = AnswerReader()
        provider = self._flavour.value
        with generation_span(self._card.name, provider, request, **self._host) as (span, headers):
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
    """A model of a server that writes answers; see `open_served`.

    Raises:
        FailedPreconditionError: ENGINE_NOT_READY, no model was given and the server lists none.
    """
    opened = open_served(base_url, name=name, model=model, api_key=api_key, concurrency=concurrency)
    async with opened as served:
        yield OpenAiModel(served, send_priority=send_priority)


def _card(served: Served) -> ModelCard:
    can = {Capability.GENERATE, Capability.TOOLS, Capability.STRUCTURED_OUTPUT}
    if served.flavour in COUNTING:
        can.add(Capability.COUNT_TOKENS)
    return ModelCard(
        name=served.name,
        kind=ModelKind.GENERATE,
        engine=served.engine,
        generative=True,
        description="a model behind an OpenAI-compatible server",
        revision=served.revision,
        capabilities=frozenset(can),
        context_tokens=served.context_tokens,
    )
