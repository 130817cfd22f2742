"""Requests and steps of Generate as messages of the contract."""

from typing import Final

from aquifer.inference.v1 import generation_pb2 as pb
from aquifer.inference.v1.lane_pb2 import LANE_BULK
from chassis.base.errors import FieldViolation, InvalidInputError
from inference.domain import Lane, ModelCard
from inference.generation import (
    Choices,
    CitationMark,
    Finish,
    FinishReason,
    Generation,
    JsonSchema,
    Message,
    OutputFormat,
    Part,
    Passage,
    ReasoningDelta,
    Regex,
    Role,
    Sampling,
    Step,
    TextDelta,
    Tool,
    ToolCall,
    ToolChoice,
)

OUTPUT_TOKENS_DEFAULT: Final = 512
ROLES: Final = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
FINISH_REASONS: Final = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.NO_ANSWER: pb.FINISH_REASON_NO_ANSWER,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.FILTERED: pb.FINISH_REASON_FILTERED,
}


def to_generation(request: pb.GenerateRequest) -> Generation:
    """The conversation of a request.

    Raises:
        InvalidInputError: as `Generation`.
    """
    return Generation(
        model=request.model,
        messages=[_message(number, one) for number, one in enumerate(request.messages)],
        max_output_tokens=request.max_output_tokens or OUTPUT_TOKENS_DEFAULT,
        sampling=_sampling(request.sampling),
        stop=list(request.stop),
        output=_output(request.output),
        tools=[
            Tool(
                name=tool.name,
                description=tool.description,
                parameters_schema=tool.parameters_schema,
            )
            for tool in request.tools
        ],
        tool_choice=ToolChoice(
            none=request.tool_choice.none,
            required=request.tool_choice.required,
            name=request.tool_choice.name,
        ),
        lane=Lane.BULK if request.lane == LANE_BULK else Lane.INTERACTIVE,
    )


def _message(number: int, message: pb.Message) -> Message:
    if message.role not in ROLES:
        raise InvalidInputError(
            "MESSAGES_INVALID",
            f"messages[{number}] needs a role",
            fields=[FieldViolation(f"messages[{number}].role", "must be set")],
        )
    return Message(
        role=ROLES[message.role],
        parts=[_part(part) for part in message.parts],
        tool_calls=[
            ToolCall(id=call.id, name=call.name, arguments=call.arguments)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )


def _part(part: pb.Part) -> Part:
    if part.HasField("passages"):
        return tuple(Passage(text=one.text, title=one.title) for one in part.passages.passages)
    return part.text


def _sampling(given: pb.Sampling) -> Sampling:
    return Sampling(**{field.name: value for field, value in given.ListFields()})


def _output(given: pb.OutputFormat) -> OutputFormat | None:
    match given.WhichOneof("format"):
        case "json_schema":
            return JsonSchema(given.json_schema)
        case "regex":
            return Regex(given.regex)
        case "choices":
            return Choices(list(given.choices.choices))
    return None


def to_response(step: Step, card: ModelCard) -> pb.GenerateResponse:
    """A step of an answer by the model with this card."""
    match step:
        case TextDelta():
            return pb.GenerateResponse(delta=pb.Delta(text=step.text))
        case ReasoningDelta():
            return pb.GenerateResponse(reasoning=pb.Delta(text=step.text))
        case CitationMark():
            return pb.GenerateResponse(citation=_citation(step))
        case ToolCall():
            call = pb.ToolCall(id=step.id, name=step.name, arguments=step.arguments)
            return pb.GenerateResponse(tool_call=call)
        case Finish():
            return pb.GenerateResponse(finish=_finish(step, card))


def _citation(mark: CitationMark) -> pb.CitationMark:
    quote = pb.Span(start=mark.span[0], end=mark.span[1]) if mark.span else None
    return pb.CitationMark(passage=mark.passage, marker=mark.marker, quote=quote)


def _finish(finish: Finish, card: ModelCard) -> pb.Finish:
    return pb.Finish(
        reason=FINISH_REASONS[finish.reason],
        model=card.name,
        revision=finish.revision or card.revision,
        generative=card.generative,
        usage=pb.TokenUsage(
            input_tokens=finish.usage.input_tokens,
            cached_input_tokens=finish.usage.cached_input_tokens,
            output_tokens=finish.usage.output_tokens,
        ),
        support=finish.support,
    )
