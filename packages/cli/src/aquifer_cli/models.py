"""`aquifer models`: the models that inference serves."""

from collections.abc import Sequence

from aquifer.inference.v1.inference_service_pb2 import (
    Capability,
    ListModelsRequest,
    Model,
    ModelKind,
)
from aquifer_cli.client import Client
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen


async def list_models(client: Client) -> Sequence[Model]:
    """All models, the default of each kind first."""
    answer = await client.call(client.inference.ListModels, ListModelsRequest())
    return list(answer.models)


def show(screen: Screen, models: Sequence[Model]) -> None:
    """A table for people, a line of JSON each for programs."""
    if screen.machine:
        for model in models:
            screen.record(as_json(model))
        return
    rows = [
        Row(
            cells=(
                model.name,
                model.engine,
                model.precision,
                f"{model.context_tokens:,}" if model.context_tokens else "",
                ", ".join(list_capabilities(model)),
            ),
            below=_describe(model),
        )
        for model in models
    ]
    screen.table(["model", "engine", "precision", "context", "can"], rows)


def _describe(model: Model) -> str:
    device = f"; on {model.device}" if model.device else ""
    licence = f"; licence {model.licence}" if model.licence else ""
    return f"{model.description}{device}{licence}"


def as_json(model: Model) -> dict[str, object]:
    """A model for programs."""
    return {
        "name": model.name,
        "kind": ModelKind.Name(model.kind).removeprefix("MODEL_KIND_"),
        "engine": model.engine,
        "precision": model.precision,
        "device": model.device,
        "generative": model.generative,
        "dimensions": model.dimensions or None,
        "context_tokens": model.context_tokens or None,
        "capabilities": list_capabilities(model),
        "revision": model.revision,
        "licence": model.licence,
        "description": model.description,
    }


def list_capabilities(model: Model) -> Sequence[str]:
    """Names such as `EMBED`; the number for one of a later contract."""
    return [
        Capability.Name(one).removeprefix("CAPABILITY_") if one in Capability.values() else str(one)
        for one in model.capabilities
    ]
