"""`aquifer models`: the models that inference serves, and those to load and unload."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aquifer.inference.v1.inference_service_pb2 import (
    Capability,
    GetModelRequest,
    ListModelsRequest,
    Model,
    ModelKind,
    ModelServer,
    ModelState,
)
from aquifer.inference.v1.model_service_pb2 import (
    DeleteModelAliasRequest,
    EmbeddingDefinition,
    EngineDefinition,
    LoadModelRequest,
    SetModelAliasRequest,
    UnloadModelRequest,
)
from aquifer.inference.v1.model_service_pb2_grpc import ModelServiceStub
from aquifer_cli.client import Client
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

# vLLM reads tens of gigabytes and compiles.
OPEN_S: Final = 1_800.0
POLL_S: Final = 1.0
FIELDS: Final = ("description", "licence", "revision")
ENGINE_FIELDS: Final = (
    "model",
    "api_key",
    "concurrency",
    "priority",
    "max_tokens",
    "tool_parser",
    "reasoning_parser",
)
EMBEDDING_FIELDS: Final = ("dimensions", "question_prefix", "passage_prefix")
USABLE: Final = {ModelState.MODEL_STATE_READY, ModelState.MODEL_STATE_UNSPECIFIED}


async def list_models(client: Client) -> Sequence[Model]:
    """All models, the default of each kind first."""
    answer = await client.call(client.inference.ListModels, ListModelsRequest())
    return list(answer.models)


def make_request(
    name: str, kind: str, servers: Sequence[tuple[str, int]], told: Mapping[str, Any]
) -> LoadModelRequest:
    """The definition of a model.

    Args:
        name: to use in requests.
        kind: `generate`, `embed` or `rerank`.
        servers: URL and weight of each.
        told: further fields of the definition, of its engines and of its embedding, by name; and
            `folder`, for a model that vLLM runs in inference.
    """
    engine = {field: told[field] for field in ENGINE_FIELDS}
    if folder := told["folder"]:
        engines = [EngineDefinition(engine="vllm", **{**engine, "model": folder})]
    else:
        engines = [
            EngineDefinition(engine="openai", url=url, weight=weight, **engine)
            for url, weight in servers
        ]
    embedding = EmbeddingDefinition(**{field: told[field] for field in EMBEDDING_FIELDS})
    return LoadModelRequest(
        name=name,
        kind=ModelKind.Value(f"MODEL_KIND_{kind.upper()}"),
        engines=engines,
        embedding=embedding if embedding.ByteSize() else None,
        **{field: told[field] for field in FIELDS},
    )


async def load(client: Client, request: LoadModelRequest, *, wait: bool) -> Model:
    """The loaded model; with `wait`, once it is open or has failed to."""
    model: Model = await client.call(_stub(client).LoadModel, request)
    clock = asyncio.get_running_loop().time
    until = clock() + (OPEN_S if wait else 0)
    while model.state == ModelState.MODEL_STATE_LOADING and clock() < until:
        await asyncio.sleep(POLL_S)
        model = await client.call(client.inference.GetModel, GetModelRequest(name=request.name))
    return model


async def unload(client: Client, name: str, *, force: bool) -> None:
    """Removes a loaded model."""
    request = UnloadModelRequest(name=name, force=force)
    await client.call(_stub(client).UnloadModel, request)


async def set_alias(client: Client, alias: str, name: str) -> None:
    """Points an alias to a model."""
    request = SetModelAliasRequest(alias=alias, model=name)
    await client.call(_stub(client).SetModelAlias, request)


async def delete_alias(client: Client, alias: str) -> None:
    """Removes an alias."""
    await client.call(_stub(client).DeleteModelAlias, DeleteModelAliasRequest(alias=alias))


def _stub(client: Client) -> ModelServiceStub:
    return ModelServiceStub(client.channels["inference"])


def is_usable(model: Model) -> bool:
    """Whether it can be used now; an older service tells no state."""
    return model.state in USABLE and not model.problem


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
                state_name(model),
                ", ".join(list_capabilities(model)),
            ),
            below=_describe(model),
        )
        for model in models
    ]
    screen.table(["model", "engine", "precision", "context", "state", "can"], rows)


def _describe(model: Model) -> str:
    parts = [
        model.description,
        f"on {model.device}" if model.device else "",
        f"licence {model.licence}" if model.licence else "",
        f"also called {', '.join(model.aliases)}" if model.aliases else "",
        f"at {', '.join(map(_describe_server, model.servers))}" if model.servers else "",
        model.problem,
    ]
    return "; ".join(filter(None, parts))


def _describe_server(server: ModelServer) -> str:
    notes = [
        "spare" if not server.weight else f"weight {server.weight}" if server.weight > 1 else "",
        "" if server.healthy else "its latest call failed",
    ]
    told = ", ".join(filter(None, notes))
    return f"{server.address} ({told})" if told else server.address


def state_name(model: Model) -> str:
    """`READY`; empty if the service tells none, the number for a state of a later contract."""
    if not model.state:
        return ""
    if model.state not in ModelState.values():
        return str(model.state)
    return ModelState.Name(model.state).removeprefix("MODEL_STATE_")


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
        "state": state_name(model),
        "problem": model.problem,
        "aliases": list(model.aliases),
        "servers": [
            {"address": one.address, "weight": one.weight, "healthy": one.healthy}
            for one in model.servers
        ],
        "loaded": model.loaded,
    }


def list_capabilities(model: Model) -> Sequence[str]:
    """Names such as `EMBED`; the number for one of a later contract."""
    return [
        Capability.Name(one).removeprefix("CAPABILITY_") if one in Capability.values() else str(one)
        for one in model.capabilities
    ]
