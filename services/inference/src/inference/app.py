"""Connects the ports of the use cases to their implementations."""

from collections.abc import Sequence
from dataclasses import dataclass

from aquifer.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from chassis.base.metrics import REGISTRY
from chassis.events.work import Publications
from chassis.process.process import Process
from inference.catalogue import Catalogue
from inference.engines.embedders import open_embedder
from inference.engines.extractive import Extractive
from inference.engines.pool import EnginePool, Member
from inference.engines.registry import open_engine
from inference.generation_metrics import VllmMetrics
from inference.ports import Embedder, Generator, Watched
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
    opened = [
        await process.stack.enter_async_context(open_embedder(name)) for name in settings.embedders
    ]
    (embedder, vocabulary), *others = opened
    more = [one for one, _ in others]
    # The first is the default; the extractive one answers when that is away.
    generators = [*await _open_engines(process, settings), Extractive(embedder, vocabulary)]
    wire(process, Adapters(embedder=embedder, generators=generators, more_embedders=more))


async def _open_engines(process: Process, settings: Settings) -> Sequence[Generator]:
    """The engines that write, the default first; those with the same name as one."""
    named: dict[str, list[Member]] = {}
    for each in settings.all_engines:
        opened = open_engine(each, otlp_endpoint=settings.otlp_endpoint)
        generator = await process.stack.enter_async_context(opened)
        if isinstance(generator, Watched):
            process.add_loop(generator.watch)
        member = Member(generator=generator, weight=each.weight)
        named.setdefault(generator.card.name, []).append(member)
    if any(each.engine == "vllm" for each in settings.all_engines):
        REGISTRY.register(VllmMetrics())
    return [
        EnginePool(members) if len(members) > 1 else members[0].generator
        for members in named.values()
    ]
