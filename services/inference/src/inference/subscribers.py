"""Events this service listens to."""

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded, EmbeddingRejected
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from chassis.base.errors import ServiceError
from chassis.events.delivery import Delivery
from chassis.process.process import Process
from inference.domain import EmbeddingRequest, Lane, Owner
from inference.usecases import EmbedTexts


def subscribe(process: Process, embed: EmbedTexts, profile: str, concurrency: int) -> None:
    """Attaches every subscriber of the service; chunks are embedded under `profile`."""

    async def on_chunks_prepared(event: ChunksPrepared, delivery: Delivery) -> None:
        """Embeds a batch and sends it on with its vectors, its text echoed.

        Idempotent: nothing is stored here, and a redelivery sends the same event again.

        Raises:
            InvalidInputError: no chunk, one of impossible length, or one the engine always fails
                on; a dead letter.
            OverloadedError, UnavailableError: the engine is full or away; the batch waits.
        """
        texts = [chunk.text for chunk in event.chunks]
        owner = Owner(event.tenant, event.document)
        done = await embed(
            EmbeddingRequest(profile=profile, texts=texts, lane=Lane.BULK, owner=owner)
        )
        delivery.publish(
            ChunksEmbedded(
                tenant=event.tenant,
                prepared=event,
                profile=done.profile.name,
                dimensions=done.profile.dimensions,
                vectors=done.vectors.astype("<f4").tobytes(),
            ),
            document=event.document,
        )

    async def on_dead(event: ChunksPrepared, delivery: Delivery, error: ServiceError) -> None:
        """Tells ingest, which fails the version."""
        delivery.publish(
            EmbeddingRejected(
                tenant=event.tenant,
                document=event.document,
                version=event.version,
                batch=event.batch,
                reason=error.reason,
            ),
            document=event.document,
            part="rejected",
        )

    process.consume(ChunksPrepared, on_chunks_prepared, on_dead=on_dead, concurrency=concurrency)
