"""A model that vLLM runs: its engine has processes of its own, this one talks to it."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Final

from opentelemetry.trace import Span
from typing_extensions import override
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from chassis.base.errors import InvalidInputError, UnavailableError
from inference.domain import Capability, Lane, ModelCard, ModelKind
from inference.engines.admission import Admission, Demand
from inference.engines.prompt import to_texts
from inference.engines.spans import generation_span, note_finish
from inference.engines.vllm.process import (
    ENGINE,
    describe,
    find_precision,
    name_of,
    open_process,
    watch,
)
from inference.generation import (
    Choices,
    Finish,
    FinishReason,
    Generation,
    JsonSchema,
    Message,
    OutputFormat,
    Regex,
    Step,
    TextDelta,
    Usage,
)
from inference.ports import Generator, TokenCounter

FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.STOP,
}


class VllmModel(Generator, TokenCounter):
    """See `Generator`; open it with `open_model`."""

    def __init__(self, engine: AsyncLLM, card: ModelCard, admission: Admission) -> None:
        self._engine = engine
        self._tokenizer: Any = engine.get_tokenizer()
        self._card = card
        self._admission = admission

    @property
    @override
    def card(self) -> ModelCard:
        return self._card

    @override
    async def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        async with AsyncExitStack() as held:
            ids = await asyncio.to_thread(self._render, request)
            sampling = _to_sampling(request, self._room(ids))
            demand = Demand(tenant=request.tenant, lane=request.lane, tokens=len(ids))
            await held.enter_async_context(self._admission.enter(demand))
            span, headers = held.enter_context(generation_span(self._card.name, ENGINE, request))
            steps = self._stream(ids, sampling, request.lane, headers, span)
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
        ids: Sequence[int],
        sampling: SamplingParams,
        lane: Lane,
        headers: Mapping[str, str],
        span: Span,
    ) -> AsyncGenerator[Step, None]:
        outputs = self._engine.generate(
            {"prompt_token_ids": list(ids)},
            sampling,
            str(uuid.uuid4()),
            trace_headers=headers,
            priority=1 if lane is Lane.BULK else 0,
        )
        written = cached = 0
        try:
            # Closing the outputs makes the engine abort the request.
            async with aclosing(outputs):
                async for output in outputs:
                    [piece] = output.outputs
                    written += len(piece.token_ids)
                    cached = output.num_cached_tokens or cached
                    if piece.text:
                        yield TextDelta(piece.text)
                    if piece.finish_reason:
                        usage = Usage(
                            input_tokens=len(ids),
                            output_tokens=written,
                            cached_input_tokens=min(cached, len(ids)),
                        )
                        reason = FINISH_REASONS[str(piece.finish_reason)]
                        finish = Finish(reason=reason, usage=usage)
                        note_finish(span, finish)
                        yield finish
        except (EngineDeadError, EngineGenerateError) as error:
            raise UnavailableError("ENGINE_FAILED", "the engine failed; ask again") from error
        except (VLLMValidationError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise InvalidInputError("REQUEST_REFUSED", f"the engine says: {why}") from error

    def _render(self, request: Generation) -> Sequence[int]:
        """The tokens of a conversation, by the template of the model.

        Raises:
            InvalidInputError: REQUEST_REFUSED, the template does not take such a conversation.
        """
        messages = [
            _to_message(message, text)
            for message, text in zip(request.messages, to_texts(request), strict=True)
        ]
        try:
            ids = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        # Templates are programs of the model's publisher, which raise whatever they like.
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise InvalidInputError(
                "REQUEST_REFUSED", f"the model's chat template says: {why}"
            ) from error
        return list(ids)

    def _room(self, ids: Sequence[int]) -> int:
        """How many tokens an answer may have.

        Raises:
            InvalidInputError: PROMPT_TOO_LONG.
        """
        room = self._card.context_tokens - len(ids)
        if room < 1:
            raise InvalidInputError(
                "PROMPT_TOO_LONG",
                f"the prompt has {len(ids)} tokens, the model reads {self._card.context_tokens}",
                tokens=len(ids),
                context_tokens=self._card.context_tokens,
            )
        return room


def _to_message(message: Message, text: str) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value, "content": text}
    if message.tool_calls:
        written["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return written


def _to_sampling(request: Generation, room: int) -> SamplingParams:
    try:
        return SamplingParams(
            **request.sampling.given,
            max_tokens=min(request.max_output_tokens, room),
            stop=list(request.stop),
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=_to_structured(request.output),
        )
    except (VLLMValidationError, ValueError) as error:
        raise InvalidInputError("REQUEST_REFUSED", f"the engine says: {error}") from error


def _to_structured(output: OutputFormat | None) -> StructuredOutputsParams | None:
    match output:
        case JsonSchema():
            return StructuredOutputsParams(json=output.schema)
        case Regex():
            return StructuredOutputsParams(regex=output.pattern)
        case Choices():
            return StructuredOutputsParams(choice=list(output.texts))
    return None


@asynccontextmanager
async def open_model(
    model: str,
    *,
    arguments: Mapping[str, Any],
    name: str = "",
    concurrency: int = 64,
    otlp_endpoint: str = "",
) -> AsyncIterator[VllmModel]:
    """Starts an engine with a model that writes; see `open_process`.

    `name` is what requests use, by default that of the folder; `concurrency` the answers at once.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    async with open_process(model, arguments, otlp_endpoint) as engine:
        card = _card(engine, name or name_of(model))
        yield VllmModel(engine, card, Admission(card.name, concurrency))


def _card(engine: AsyncLLM, name: str) -> ModelCard:
    config = engine.model_config
    return ModelCard(
        name=name,
        kind=ModelKind.GENERATE,
        engine=ENGINE,
        generative=True,
        description=describe(engine),
        precision=find_precision(config.dtype),
        revision=str(config.revision or ""),
        capabilities=frozenset(
            {Capability.GENERATE, Capability.COUNT_TOKENS, Capability.STRUCTURED_OUTPUT}
        ),
        context_tokens=config.max_model_len,
    )
