"""Connects the ports of the use cases to their implementations."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aquifer.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from chassis.events.work import Publications
from chassis.process.process import Process
from inference.batching import Batcher
from inference.engines import minilm
from inference.engines.extractive import Extractive, Vocabulary
from inference.engines.null import NullEmbedder
from inference.rpc import InferenceRpc
from inference.settings import Settings
from inference.subscribers import UseCases, events
from inference.usecases import (
    EmbedChunks,
    Embedder,
    EmbedTexts,
    GenerateAnswer,
    Generator,
    ListModels,
)

SERVICE = "inference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Everything outside the use cases."""

    embedder: Embedder
    generator: Generator
    more_embedders: Sequence[Embedder] = ()


def wire(process: Process, adapters: Adapters) -> None:
    """Adds the service and its subscribers to the process."""
    profile, model = adapters.embedder.profile.name, adapters.generator.card.name
    opened = [adapters.embedder, *adapters.more_embedders]
    embedders, generators = {one.profile.name: one for one in opened}, {model: adapters.generator}
    embed = EmbedTexts(embedders)
    begin = Publications(process.bus).begin
    chunks = EmbedChunks(begin, embed, profile)
    process.consume(events, app=UseCases(embed=chunks, dead_letters=process.dead_letters))
    add_InferenceServiceServicer_to_server(
        InferenceRpc(
            embed=embed,
            generate=GenerateAnswer(generators),
            models=ListModels(embedders, generators),
            default_profile=profile,
            default_model=model,
        ),
        process.server,
    )


async def build(process: Process, settings: Settings) -> None:
    """Opens the engines and adds the service to the process."""
    first, *others = settings.embedders
    embedder, vocabulary = await _open_embedder(process, first)
    more = [(await _open_embedder(process, name))[0] for name in others]
    generator = Extractive(embedder, vocabulary)
    wire(process, Adapters(embedder=embedder, generator=generator, more_embedders=more))


async def _open_embedder(process: Process, name: str) -> tuple[Embedder, Vocabulary]:
    if name == "null":
        null = NullEmbedder()
        return null, null
    # In a thread, because the process connects to the bus and to auth meanwhile.
    engine = await asyncio.to_thread(minilm.load)
    return await process.stack.enter_async_context(Batcher(engine)), engine
