"""A model that vLLM runs: its engine has processes of its own, this one talks to it."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from opentelemetry.trace import Span
from typing_extensions import override
from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from chassis.base.errors import UnavailableError
from inference.domain import Capability, Lane, ModelCard, ModelKind
from inference.engine_settings import EngineSettings
from inference.engines.admission import Admission, Demand
from inference.engines.spans import generation_span, note_finish
from inference.engines.vllm import adapters
from inference.engines.vllm.chat import Chat, Rendered, check_parsers, refuse
from inference.engines.vllm.process import (
    ENGINE,
    describe,
    find_device,
    find_precision,
    open_process,
    watch,
)
from inference.generation import Finish, Generation, Step
from inference.ports import Generator, TokenCounter

CAPABILITIES: Final = {Capability.GENERATE, Capability.COUNT_TOKENS, Capability.STRUCTURED_OUTPUT}


class VllmModel(Generator, TokenCounter):
    """See `Generator`; open it with `open_models`."""

    def __init__(self, engine: AsyncLLM, chat: Chat, card: ModelCard, admission: Admission) -> None:
        self._engine = engine
        self._chat = chat
        self._tokenizer: Any = engine.get_tokenizer()
        self._card = card
        self._admission = admission

    @property
    @override
    def card(self) -> ModelCard:
        return self._card

    @override
    def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        return self.answer(request, self._card.name)

    async def answer(
        self, request: Generation, name: str, adapter: LoRARequest | None = None
    ) -> AsyncGenerator[Step, None]:
        """As `generate`, with an adapter or without; `name` is that of the span."""
        async with AsyncExitStack() as held:
            rendered = await self._chat.render(request)
            demand = Demand(tenant=request.tenant, lane=request.lane, tokens=rendered.tokens)
            await held.enter_async_context(self._admission.enter(demand))
            span, headers = held.enter_context(generation_span(name, ENGINE, request))
            steps = self._stream(rendered, adapter, request.lane, headers, span)
            async for step in await held.enter_async_context(aclosing(steps)):
                yield step

    async def watch(self) -> None:
        """Ends with an error when the engine is dead: only another process can start a new one."""
        await watch(self._engine)

    @override
    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        def count() -> list[int]:
            return [len(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts]

        return await asyncio.to_thread(count)

    async def _stream(
        self,
        rendered: Rendered,
        adapter: LoRARequest | None,
        lane: Lane,
        headers: Mapping[str, str],
        span: Span,
    ) -> AsyncGenerator[Step, None]:
        outputs = self._engine.generate(
            rendered.prompt,
            rendered.sampling,
            str(uuid.uuid4()),
            lora_request=adapter,
            trace_headers=headers,
            priority=1 if lane is Lane.BULK else 0,
            **rendered.arguments,
        )
        try:
            # Closing the outputs makes the engine abort the request.
            async with aclosing(outputs):
                async for output in outputs:
                    [piece] = output.outputs
                    for step in rendered.answer.read(piece, output.num_cached_tokens or 0):
                        if isinstance(step, Finish):
                            note_finish(span, step)
                        yield step
        except (EngineDeadError, EngineGenerateError) as error:
            raise UnavailableError("ENGINE_FAILED", "the engine failed; ask again") from error
        except (VLLMValidationError, ValueError) as error:
            raise refuse(error) from error


class VllmAdapter(Generator, TokenCounter):
    """A LoRA adapter of a model, with a name of its own; it shares all else with the model."""

    def __init__(self, model: VllmModel, request: LoRARequest) -> None:
        self._model = model
        self._request = request

    @property
    @override
    def card(self) -> ModelCard:
        base = self._model.card
        description = f"a LoRA adapter of {base.name}, {base.description}"
        return replace(base, name=self._request.lora_name, description=description)

    @override
    def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        return self._model.answer(request, self._request.lora_name, self._request)

    @override
    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        return await self._model.count(texts)


@asynccontextmanager
async def open_models(
    settings: EngineSettings, otlp_endpoint: str = ""
) -> AsyncIterator[Sequence[VllmModel | VllmAdapter]]:
    """Starts an engine with a model that writes, the first here, and its adapters.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    check_parsers(settings.tool_parser, settings.reasoning_parser)
    arguments = dict(adapters.find_arguments(settings.adapters))
    if settings.reasoning_parser:
        # The engine itself has to know where the reasoning ends: forms bind only what follows.
        arguments["reasoning_parser"] = settings.reasoning_parser
    async with open_process(settings, otlp_endpoint, arguments) as engine:
        chat = Chat(engine, settings.tool_parser, settings.reasoning_parser)
        card = _card(engine, settings)
        model = VllmModel(engine, chat, card, Admission(card.name, settings.concurrency))
        loaded = await adapters.load(engine, settings.adapters)
        yield [model, *(VllmAdapter(model, each) for each in loaded)]


def _card(engine: AsyncLLM, settings: EngineSettings) -> ModelCard:
    config = engine.model_config
    calls = {Capability.TOOLS} if settings.tool_parser else set()
    return ModelCard(
        name=settings.public_name,
        kind=ModelKind.GENERATE,
        engine=ENGINE,
        generative=True,
        description=describe(engine),
        precision=find_precision(config.dtype),
        revision=str(config.revision or ""),
        capabilities=frozenset(CAPABILITIES | calls),
        context_tokens=config.max_model_len,
        device=find_device(),
    )
