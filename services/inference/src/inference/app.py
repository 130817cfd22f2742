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
from inference.engines import null
from inference.engines.embedders import open_embedder, open_embedding_engine
from inference.engines.extractive import Extractive
from inference.engines.pool import EnginePool, Member
from inference.engines.registry import open_engine, open_reranker
from inference.generation_metrics import VllmMetrics
from inference.ports import Embedder, Generator, Reranker, Watched
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
from inference.vector_cache import StoredVectors

SERVICE = "inference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Everything outside the use cases."""

    embedder: Embedder
    generators: Sequence[Generator]
    more_embedders: Sequence[Embedder] = ()
    rerankers: Sequence[Reranker] = ()

    @property
    def catalogue(self) -> Catalogue:
        """All models, the default of each kind first."""
        embedders = (self.embedder, *self.more_embedders)
        return Catalogue([*embedders, *self.generators, *self.rerankers])


def wire(process: Process, adapters: Adapters) -> None:
    """Adds the service and its subscribers to the process."""
    profile = adapters.embedder.profile.name
    catalogue = adapters.catalogue
    embed = EmbedTexts(catalogue)
    begin = Publications(process.bus).begin
    cache = StoredVectors(process.bus)
    # Hashes take less time than a look into the cache.
    chunks = EmbedChunks(begin, embed, profile, None if profile == null.PROFILE_NAME else cache)
    use_cases = UseCases(embed=chunks, dead_letters=process.dead_letters, cache=cache)
    process.consume(events, app=use_cases)
    add_InferenceServiceServicer_to_server(
        InferenceRpc(
            embed=embed,
            generate=GenerateAnswer(catalogue),
            rerank=RerankTexts(catalogue),
            count=CountTokens(catalogue),
            models=ListModels(catalogue),
            default_profile=profile,
        ),
        process.server,
    )


async def build(process: Process, settings: Settings) -> None:
    """Opens the engines and adds the service to the process."""
    enter = process.stack.enter_async_context
    local = {name: await enter(open_embedder(name)) for name in settings.local_embedders}
    remote = {one.profile.name: one for one in await _open_embedding_engines(process, settings)}
    embedder, *more = [
        remote[name] if name in remote else local[name][0] for name in settings.embedders
    ]
    # Its scores are fitted to vectors of the local models; and it answers while a server is away.
    extractive = Extractive(*next(iter(local.values())))
    adapters = Adapters(
        embedder=embedder,
        # The first is the default; the extractive one answers when that is away.
        generators=[*await _open_engines(process, settings), extractive],
        more_embedders=more,
        rerankers=await _open_rerankers(process, settings),
    )
    if settings.uses_vllm:
        REGISTRY.register(VllmMetrics())
    wire(process, adapters)


async def _open_embedding_engines(process: Process, settings: Settings) -> Sequence[Embedder]:
    opened = []
    for each in settings.embedding_engines:
        embedder = await process.stack.enter_async_context(
            open_embedding_engine(each, settings.otlp_endpoint)
        )
        process.add_loop(embedder.watch)
        opened.append(embedder)
    return opened


async def _open_rerankers(process: Process, settings: Settings) -> Sequence[Reranker]:
    opened = []
    for each in settings.rerankers:
        reranker = await process.stack.enter_async_context(
            open_reranker(each, settings.otlp_endpoint)
        )
        if isinstance(reranker, Watched):
            process.add_loop(reranker.watch)
        opened.append(reranker)
    return opened


async def _open_engines(process: Process, settings: Settings) -> Sequence[Generator]:
    """The engines that write, the default first; those with the same name as one."""
    named: dict[str, list[Member]] = {}
    for each in settings.all_engines:
        opened = open_engine(each, otlp_endpoint=settings.otlp_endpoint)
        for generator in await process.stack.enter_async_context(opened):
            if isinstance(generator, Watched):
                process.add_loop(generator.watch)
            member = Member(generator=generator, weight=each.weight)
            named.setdefault(generator.card.name, []).append(member)
    return [
        EnginePool(members) if len(members) > 1 else members[0].generator
        for members in named.values()
    ]
