"""The methods of `IngestService` for collections."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.ingest.v1 import collection_pb2 as resource
from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import DocumentState
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceServicer
from chassis.base import paging
from chassis.base.labels import read_labels
from chassis.identity.tokens import caller
from ingest.collections import Collection, CollectionSettings, read_collection_id, read_steps
from ingest.usecases.announce import to_receipt
from ingest.usecases.collections import (
    CreateCollection,
    GetCollection,
    ListCollections,
    UpdateCollection,
)
from ingest.usecases.deletion.delete_collection import DeleteCollection, GetCollectionDeletion
from ingest.usecases.rows import CollectionDeletion


@dataclass(frozen=True, kw_only=True)
class CollectionRpc(IngestServiceServicer):
    """Converts messages and calls use cases."""

    create_collection: CreateCollection
    get_collection: GetCollection
    list_collections: ListCollections
    update_collection: UpdateCollection
    delete_collection: DeleteCollection
    get_collection_deletion: GetCollectionDeletion

    @override
    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: ServicerContext[Any, Any]
    ) -> resource.Collection:
        given = request.collection
        collection_id = read_collection_id(given.name, field_name="collection.name")
        settings = _read_settings(given)
        return _to_message(
            await self.create_collection.run(caller().tenant, collection_id, settings)
        )

    @override
    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: ServicerContext[Any, Any]
    ) -> resource.Collection:
        collection_id = read_collection_id(request.name)
        return _to_message(await self.get_collection.run(caller().tenant, collection_id))

    @override
    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListCollectionsResponse:
        page = paging.parse(request.page_size, request.page_token)
        found = await self.list_collections.run(
            caller().tenant, after=page.after_name, limit=page.limit
        )
        cut, token = page.cut(found, lambda one: (one.collection_id,))
        return pb.ListCollectionsResponse(collections=map(_to_message, cut), next_page_token=token)

    @override
    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: ServicerContext[Any, Any]
    ) -> resource.Collection:
        given = request.collection
        changed = await self.update_collection.run(
            caller().tenant,
            read_collection_id(given.name, field_name="collection.name"),
            _read_settings(given),
            request.update_mask.paths,
        )
        return _to_message(changed)

    @override
    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: ServicerContext[Any, Any]
    ) -> pb.DeleteCollectionResponse:
        deletion = await self.delete_collection.run(
            caller().tenant, read_collection_id(request.name), force=request.force
        )
        return pb.DeleteCollectionResponse(deletion=_to_deletion(deletion) if deletion else None)

    @override
    async def GetCollectionDeletion(
        self, request: pb.GetCollectionDeletionRequest, context: ServicerContext[Any, Any]
    ) -> resource.CollectionDeletion:
        collection_id = read_collection_id(request.name)
        return _to_deletion(await self.get_collection_deletion.run(caller().tenant, collection_id))


def _read_settings(given: resource.Collection) -> CollectionSettings:
    """A part of a second counts as a whole one."""
    retention = given.retention
    return CollectionSettings(
        description=given.description,
        target_chars=given.chunk_sizes.target_chars,
        max_chars=given.chunk_sizes.max_chars,
        retention_s=retention.seconds + (retention.nanos > 0),
        version_retention=given.version_retention,
        steps=read_steps([_name_step(step) for step in given.steps]),
        access_labels=read_labels(given.access_labels, field="collection.access_labels"),
    )


def _name_step(step: resource.Step.ValueType) -> str:
    """The name of a step, or its number if it has none here."""
    if step not in resource.Step.values():
        return str(step)
    return resource.Step.Name(step).removeprefix("STEP_")


def _to_message(one: Collection) -> resource.Collection:
    message = resource.Collection(
        name=f"collections/{one.collection_id}",
        document_count=one.document_count,
        state_counts=[
            resource.StateCount(
                state=DocumentState.Value(f"DOCUMENT_STATE_{state}"), document_count=count
            )
            for state, count in one.state_counts.items()
        ],
        description=one.settings.description,
        version_retention=one.settings.version_retention,
        steps=[resource.Step.Value(f"STEP_{step}") for step in one.settings.steps],
        access_labels=one.settings.access_labels,
        create_time=_to_timestamp(one.created_at),
        update_time=_to_timestamp(one.updated_at),
    )
    if one.settings.has_chunk_sizes:
        message.chunk_sizes.target_chars = one.settings.target_chars
        message.chunk_sizes.max_chars = one.settings.max_chars
    if one.settings.retention_s:
        message.retention.CopyFrom(Duration(seconds=one.settings.retention_s))
    return message


def _to_deletion(one: CollectionDeletion) -> resource.CollectionDeletion:
    return resource.CollectionDeletion(
        name=f"collections/{one.collection_id}",
        number=one.number,
        document_count=one.documents,
        remaining_count=one.remaining,
        receipt=to_receipt(one.receipt) if one.receipt else None,
        request_time=_to_timestamp(one.requested_at),
        finish_time=_to_timestamp(one.finished_at),
    )


def _to_timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
