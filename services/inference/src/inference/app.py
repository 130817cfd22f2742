"""Connects the ports of the use cases to their implementations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from aquifer.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from aquifer.inference.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from chassis.base.metrics import REGISTRY
from chassis.events.work import Publications
from chassis.process.process import Process
from inference.catalogue import Catalogue
from inference.definition_store import StoredDefinitions
from inference.engine_settings import PoolingSettings
from inference.engines import null
from inference.engines.embedders import open_embedder, open_embedding_engine
from inference.engines.extractive import Extractive
from inference.engines.opener import Opener
from inference.engines.pool import GeneratorPool, Member, WeightedEngines
from inference.engines.registry import open_engine, open_reranker
from inference.generation_metrics import VllmMetrics
from inference.model_loader import ModelLoader
from inference.model_rpc import ModelRpc
from inference.model_usecases import DeleteAlias, LoadModel, SetAlias, UnloadModel
from inference.ports import DefinitionStore, Embedder, Generator, Reranker, Watched
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

P = TypeVar("P", bound=PoolingSettings)


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


def wire(process: Process, adapters: Adapters) -> Catalogue:
    """Adds the service and its subscribers to the process; returns the models they use."""
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
    return catalogue


def wire_loading(
    process: Process, catalogue: Catalogue, store: DefinitionStore, settings: Settings
) -> None:
    """Adds the service that loads models, and what keeps them open."""
    opener = Opener(settings.model_folder, settings.otlp_endpoint)
    loader = ModelLoader(store, catalogue, opener.open)
    process.add_loop(loader.run)
    process.add_probe(loader.probe)
    add_ModelServiceServicer_to_server(
        ModelRpc(
            load=LoadModel(catalogue, store, loader, settings.model_folder),
            unload=UnloadModel(catalogue, store, loader),
            set_alias=SetAlias(catalogue, store, loader),
            delete_alias=DeleteAlias(catalogue, store, loader),
        ),
        process.server,
    )


async def build(process: Process, settings: Settings) -> None:
    """Opens the engines and adds the services to the process."""
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
        generators=[*await _open_generators(process, settings), extractive],
        more_embedders=more,
        rerankers=await _open_rerankers(process, settings),
    )
    # Also without such a model now: one may be loaded.
    if settings.uses_vllm or settings.model_folder:
        REGISTRY.register(VllmMetrics())
    catalogue = wire(process, adapters)
    store = StoredDefinitions(process.bus, settings.credential_key.get_secret_value())
    wire_loading(process, catalogue, store, settings)


async def _open_embedding_engines(process: Process, settings: Settings) -> Sequence[Embedder]:
    opened = [
        await process.stack.enter_async_context(
            open_embedding_engine(engines, settings.otlp_endpoint)
        )
        for engines in _by_name(settings.embedding_engines)
    ]
    for embedder in opened:
        process.add_loop(embedder.watch)
    return opened


async def _open_rerankers(process: Process, settings: Settings) -> Sequence[Reranker]:
    opened = [
        await process.stack.enter_async_context(open_reranker(engines, settings.otlp_endpoint))
        for engines in _by_name(settings.rerankers)
    ]
    for reranker in opened:
        if isinstance(reranker, Watched):
            process.add_loop(reranker.watch)
    return opened


async def _open_generators(process: Process, settings: Settings) -> Sequence[Generator]:
    """The engines that write, the default first; those with the same name as one.

    Only an open engine knows its name, if that is the server's.
    """
    named: dict[str, list[Member[Generator]]] = {}
    for each in settings.all_engines:
        opened = open_engine(each, settings.otlp_endpoint)
        for generator in await process.stack.enter_async_context(opened):
            if isinstance(generator, Watched):
                process.add_loop(generator.watch)
            member = Member(engine=generator, weight=each.weight)
            named.setdefault(generator.card.name, []).append(member)
    return [
        GeneratorPool(WeightedEngines(members)) if len(members) > 1 else members[0].engine
        for members in named.values()
    ]


def _by_name(engines: Sequence[P]) -> Sequence[Sequence[P]]:
    named: dict[str, list[P]] = {}
    for each in engines:
        named.setdefault(each.public_name, []).append(each)
    return list(named.values())
