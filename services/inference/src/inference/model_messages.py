"""Models and their definitions as messages of the contract."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError

from aquifer.inference.v1 import inference_service_pb2 as pb
from aquifer.inference.v1 import model_service_pb2
from chassis.base.errors import FieldViolation, InvalidInputError
from inference.catalogue import ListedModel
from inference.domain import Capability, ModelKind, ModelState
from inference.engine_settings import ModelSettings
from inference.model_definition import SETTINGS, ModelDefinition, invalid

KINDS: Final = {
    ModelKind.EMBED: pb.MODEL_KIND_EMBED,
    ModelKind.GENERATE: pb.MODEL_KIND_GENERATE,
    ModelKind.RERANK: pb.MODEL_KIND_RERANK,
}
CAPABILITIES: Final = {
    Capability.EMBED: pb.CAPABILITY_EMBED,
    Capability.GENERATE: pb.CAPABILITY_GENERATE,
    Capability.RERANK: pb.CAPABILITY_RERANK,
    Capability.COUNT_TOKENS: pb.CAPABILITY_COUNT_TOKENS,
    Capability.QUOTES: pb.CAPABILITY_QUOTES,
    Capability.TOOLS: pb.CAPABILITY_TOOLS,
    Capability.STRUCTURED_OUTPUT: pb.CAPABILITY_STRUCTURED_OUTPUT,
}
STATES: Final = {
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.FAILED: pb.MODEL_STATE_FAILED,
    ModelState.UNREACHABLE: pb.MODEL_STATE_UNREACHABLE,
}
_KINDS: Final = {number: kind for kind, number in KINDS.items()}
_OF_A_SERVER: Final = ("url", "api_key")
_POOLING: Final = {"max_tokens", "batch_texts", "refuses_long_texts"}


def to_model(listed: ListedModel) -> pb.Model:
    """A model of the catalogue."""
    model = pb.Model(
        name=listed.name,
        state=STATES[listed.state],
        problem=listed.problem,
        aliases=listed.aliases,
        servers=[
            pb.ModelServer(address=one.address, weight=one.weight, healthy=one.healthy)
            for one in listed.servers
        ],
        loaded=listed.loaded,
    )
    if (card := listed.card) is not None:
        model.MergeFrom(
            pb.Model(
                kind=KINDS[card.kind],
                generative=card.generative,
                engine=card.engine,
                precision=card.precision.value if card.precision else "",
                dimensions=card.dimensions or 0,
                profile=card.name if card.kind is ModelKind.EMBED else "",
                description=card.description,
                revision=card.revision,
                licence=card.licence,
                capabilities=[CAPABILITIES[one] for one in Capability if one in card.capabilities],
                context_tokens=card.context_tokens,
                device=card.device,
            )
        )
    return model


def to_definition(request: model_service_pb2.LoadModelRequest) -> ModelDefinition:
    """The definition in a request.

    Raises:
        InvalidInputError: MODEL_INVALID.
    """
    if request.kind not in _KINDS:
        raise invalid("kind", "must be set")
    kind = _KINDS[request.kind]
    if request.HasField("embedding") and kind is not ModelKind.EMBED:
        raise invalid("embedding", "is only for a model that embeds")
    shared = _given(request.embedding)
    return ModelDefinition(
        name=request.name,
        kind=kind,
        engines=[
            _to_engine(f"engines[{number}]", kind, request.name, {**shared, **_given(engine)})
            for number, engine in enumerate(request.engines)
        ],
        description=request.description,
        licence=request.licence,
        revision=request.revision,
    )


def _given(message: Any) -> dict[str, Any]:
    """The fields that are set, by name."""
    return {
        field.name: _to_json(MessageToDict(value)) if field.name == "arguments" else value
        for field, value in message.ListFields()
    }


def _to_json(value: Any) -> Any:
    """A value of a `Struct`, which has no whole numbers of its own."""
    match value:
        case dict():
            return {name: _to_json(one) for name, one in value.items()}
        case list():
            return [_to_json(one) for one in value]
        case float() if value.is_integer():
            return int(value)
    return value


def _to_engine(field: str, kind: ModelKind, name: str, given: Mapping[str, Any]) -> ModelSettings:
    wrong = {"priority"} if kind is not ModelKind.GENERATE else _POOLING
    if unused := wrong & given.keys():
        raise invalid(f"{field}.{min(unused)}", "is not for a model of this kind")
    for of_server in _OF_A_SERVER:
        if given.get("engine") == "vllm" and of_server in given:
            raise invalid(f"{field}.{of_server}", "is of a server; vLLM runs in this process")
    if given.get("engine") == "openai" and kind is ModelKind.GENERATE and "arguments" in given:
        raise invalid(f"{field}.arguments", "are not for a server that writes answers")
    try:
        return SETTINGS[kind].model_validate({**given, "name": name})
    except ValidationError as error:
        # Without what was given: it may be a key.
        found = [
            FieldViolation(
                ".".join([field, *map(str, one["loc"])]),
                str(one["msg"]).removeprefix("Value error, "),
            )
            for one in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        why = "; ".join(f"{one.field}: {one.description}" for one in found)
        raise InvalidInputError("MODEL_INVALID", why, fields=found) from None
