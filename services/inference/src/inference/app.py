"""Connects the ports of the use cases to their implementations."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from aquifer.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from chassis.base.errors import FailedPreconditionError
from chassis.base.metrics import REGISTRY
from chassis.events.work import Publications
from chassis.process.process import Process
from inference.batching import Batcher
from inference.catalogue import Catalogue
from inference.engines import minilm
from inference.engines.extractive import Extractive, Vocabulary
from inference.engines.null import NullEmbedder
from inference.generation_metrics import VllmMetrics
from inference.ports import Embedder, Generator
from inference.rpc import InferenceRpc
from inference.settings import Settings
from inference.subscribers import UseCases, events
from inference.usecases import (
    CountTokens,
    EmbedChunks,
    EmbedTexts,
    GenerateAnswer,
    ListModels,
    RerankTexts,
)

SERVICE = "inference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Everything outside the use cases."""

    embedder: Embedder
    generators: Sequence[Generator]
    more_embedders: Sequence[Embedder] = ()


def wire(process: Process, adapters: Adapters) -> None:
    """Adds the service and its subscribers to the process."""
    profile = adapters.embedder.profile.name
    opened = [adapters.embedder, *adapters.more_embedders]
    embedders = {one.profile.name: one for one in opened}
    catalogue = Catalogue(adapters.generators)
    embed = EmbedTexts(embedders)
    begin = Publications(process.bus).begin
    chunks = EmbedChunks(begin, embed, profile)
    process.consume(events, app=UseCases(embed=chunks, dead_letters=process.dead_letters))
    add_InferenceServiceServicer_to_server(
        InferenceRpc(
            embed=embed,
            generate=GenerateAnswer(catalogue),
            rerank=RerankTexts(catalogue),
            count=CountTokens(catalogue),
            models=ListModels(embedders, catalogue),
            default_profile=profile,
        ),
        process.server,
    )


async def build(process: Process, settings: Settings) -> None:
    """Opens the engines and adds the service to the process."""
    first, *others = settings.embedders
    embedder, vocabulary = await _open_embedder(process, first)
    more = [(await _open_embedder(process, name))[0] for name in others]
    # The first is the default; the extractive one answers when that is away.
    generators = [*await _open_model(process, settings), Extractive(embedder, vocabulary)]
    wire(process, Adapters(embedder=embedder, generators=generators, more_embedders=more))


async def _open_model(process: Process, settings: Settings) -> Sequence[Generator]:
    """The model of the engine that is set; each engine is imported only where it is used."""
    match settings.engine:
        case "openai":
            from inference.engines.openai import model as openai  # noqa: PLC0415

            served = openai.open_model(
                settings.engine_url,
                model=settings.engine_model,
                api_key=settings.engine_api_key.get_secret_value(),
                concurrency=settings.engine_concurrency,
                send_priority=settings.engine_priority,
            )
            return [await process.stack.enter_async_context(served)]
        case "vllm":
            vllm = _import_vllm()
            started = vllm.open_model(
                settings.engine_model,
                arguments=vllm.read_arguments(settings.engine_arguments),
                concurrency=settings.engine_concurrency,
                otlp_endpoint=settings.otlp_endpoint,
            )
            model = await process.stack.enter_async_context(started)
            process.add_loop(model.watch)
            REGISTRY.register(VllmMetrics())
            return [model]
    return ()


def _import_vllm() -> ModuleType:
    """The engine, which needs an installation of its own.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED.
    """
    try:
        from inference.engines.vllm import model  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            "ENGINE_NOT_INSTALLED",
            f"AQUIFER_ENGINE=vllm needs vLLM beside inference: {error};"
            " services/inference/README.md tells how to install it",
        ) from error
    return model


async def _open_embedder(process: Process, name: str) -> tuple[Embedder, Vocabulary]:
    if name == "null":
        null = NullEmbedder()
        return null, null
    # In a thread, because the process connects to the bus and to auth meanwhile.
    engine = await asyncio.to_thread(minilm.load)
    return await process.stack.enter_async_context(Batcher(engine)), engine
