"""Conversations and answers as vLLM's own server renders and reads them, without its HTTP."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMValidationError
from vllm.outputs import CompletionOutput
from vllm.parser import Parser
from vllm.reasoning import ReasoningParserManager
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import SamplingParams
from vllm.tool_parsers import ToolParserManager
from vllm.v1.engine.async_llm import AsyncLLM

from chassis.base.errors import FailedPreconditionError, InvalidInputError, UnavailableError
from inference.engines.openai.chat import Flavour, to_body
from inference.engines.tool_calls import CallReader
from inference.generation import (
    FinishReason,
    Generation,
    ReasoningDelta,
    Step,
    TextDelta,
    Usage,
)

log = logging.getLogger(__name__)

FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.STOP,
}
# What a prompt that is too long has too many of.
TOO_LONG: Final = {"input_text", "input_tokens"}


def check_parsers(tool_parser: str, reasoning_parser: str) -> None:
    """Checks names of vLLM's parsers, before an engine starts; empty: none.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS.
    """
    known = {
        "tool_parser": (tool_parser, ToolParserManager),
        "reasoning_parser": (reasoning_parser, ReasoningParserManager),
    }
    for setting, (name, parsers) in known.items():
        if name and name not in parsers.list_registered():
            raise FailedPreconditionError(
                "ENGINE_ARGUMENTS",
                f"vLLM has no {setting} {name!r}; it has {', '.join(parsers.list_registered())}",
            )


@dataclass(slots=True)
class AnswerParser:
    """Reads the steps of one answer; without a parser all of it is text."""

    _parser: Parser | None
    _chat: ChatCompletionRequest
    _prompt: Sequence[int]
    _calls: CallReader = field(default_factory=CallReader)
    _written: int = 0
    _cached: int = 0

    def read(self, piece: CompletionOutput, cached: int) -> Iterator[Step]:
        """The steps of a piece, the last one with the end; `cached` tokens were known before.

        Raises:
            UnavailableError: ENGINE_FAILED.
        """
        self._written += len(piece.token_ids)
        self._cached = cached or self._cached
        if self._parser is None:
            if piece.text:
                yield TextDelta(piece.text)
        else:
            yield from self._parse(self._parser, piece)
        if piece.finish_reason:
            yield from self._finish(str(piece.finish_reason))

    def _parse(self, parser: Parser, piece: CompletionOutput) -> Iterator[Step]:
        try:
            delta = parser.parse_delta(
                piece.text,
                list(piece.token_ids),
                self._chat,
                self._prompt,
                finished=piece.finish_reason is not None,
            )
            for call in (delta and delta.tool_calls) or ():
                self._calls.add(call.model_dump())
        # Models write what their parser does not expect; the rest of the answer is text then.
        except Exception as error:  # noqa: BLE001
            log.warning("answer.unparsed", extra={"error": type(error).__name__})
            self._parser = None
            if piece.text:
                yield TextDelta(piece.text)
            return
        if delta is None:
            return
        if delta.reasoning:
            yield ReasoningDelta(delta.reasoning)
        if delta.content:
            yield TextDelta(delta.content)

    def _finish(self, reason: str) -> Sequence[Step]:
        if reason not in FINISH_REASONS:
            raise UnavailableError("ENGINE_FAILED", f"the engine ended with {reason!r}; ask again")
        usage = Usage(
            input_tokens=len(self._prompt),
            output_tokens=self._written,
            cached_input_tokens=min(self._cached, len(self._prompt)),
        )
        return self._calls.finish(FINISH_REASONS[reason], usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A conversation as the engine takes it; `arguments` are further ones of its `generate`."""

    prompt: Mapping[str, Any]
    sampling: SamplingParams
    arguments: Mapping[str, Any]
    answer: AnswerParser

    @property
    def tokens(self) -> int:
        """How many the prompt has."""
        return len(self.prompt["prompt_token_ids"])


class Chat:
    """The template of a model, and vLLM's parsers of its functions and its reasoning.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, the parsers do not fit the model.
    """

    def __init__(self, engine: AsyncLLM, tool_parser: str = "", reasoning_parser: str = "") -> None:
        self._config = engine.model_config
        self._defaults = self._config.get_diff_sampling_param()
        self._tokenizer = engine.get_tokenizer()
        try:
            self._renderer = OnlineRenderer(
                self._config,
                engine.renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
                enable_auto_tools=bool(tool_parser),
                tool_parser=tool_parser or None,
                reasoning_parser=reasoning_parser or None,
            )
        # ImportError: some parsers need packages of their own.
        except (TypeError, ValueError, ImportError) as error:
            raise FailedPreconditionError(
                "ENGINE_ARGUMENTS", f"the parsers do not fit the model: {_words(error)}"
            ) from error

    async def render(self, request: Generation) -> Rendered:
        """The prompt of a conversation, and how its answer is written and read.

        Raises:
            InvalidInputError: PROMPT_TOO_LONG, REQUEST_REFUSED.
        """
        longest = self._config.max_model_len
        body = to_body(request, "", Flavour.VLLM)
        # vLLM refuses more than the model reads, where we promise at most so many.
        body["max_completion_tokens"] = min(body.pop("max_tokens"), longest)
        try:
            chat = ChatCompletionRequest.model_validate(body)
            rendered = await self._renderer.render_chat(chat)
        except VLLMValidationError as error:
            if error.parameter in TOO_LONG:
                raise _too_long(longest, error) from error
            raise refuse(error) from error
        # Templates are programs of the model's publisher, which raise whatever they like.
        except Exception as error:
            raise refuse(error) from error
        if isinstance(rendered, ErrorResponse):
            raise refuse(rendered.error.message)
        _, [prompt] = rendered
        return self._prepare(chat, prompt)

    def _prepare(self, chat: ChatCompletionRequest, prompt: Mapping[str, Any]) -> Rendered:
        ids = prompt["prompt_token_ids"]
        room = self._config.max_model_len - len(ids)
        if room < 1:
            raise _too_long(self._config.max_model_len)
        parser, arguments = None, {}
        if self._renderer.parser is not None:
            template = self._renderer.effective_chat_template_kwargs(chat)
            parser = self._renderer.parser(
                self._tokenizer,
                chat.tools,
                chat_template_kwargs=template,
                model_config=self._config,
            )
            # A form of the answer binds it only after its reasoning.
            arguments["reasoning_ended"] = chat.resolve_reasoning_ended(parser, ids)
            if parser.reasoning_parser is not None:
                arguments["reasoning_parser_kwargs"] = {"chat_template_kwargs": template}
        try:
            sampling = chat.to_sampling_params(
                min(chat.max_completion_tokens, room), self._defaults
            )
        except (VLLMValidationError, ValueError) as error:
            raise refuse(error) from error
        answer = AnswerParser(parser, chat, ids)
        return Rendered(prompt=prompt, sampling=sampling, arguments=arguments, answer=answer)


def refuse(error: Exception | str) -> InvalidInputError:
    """The error for a request that the engine does not take; its words go to the caller only."""
    return InvalidInputError("REQUEST_REFUSED", f"the engine says: {_words(error)}")


def _too_long(longest: int, error: Exception | str = "") -> InvalidInputError:
    detail = f"; it says: {_words(error)}" if error else ""
    return InvalidInputError(
        "PROMPT_TOO_LONG",
        f"the prompt has more tokens than the {longest} that the model reads{detail}",
        context_tokens=longest,
    )


def _words(error: Exception | str) -> str:
    return " ".join(str(error).split())[:300]
