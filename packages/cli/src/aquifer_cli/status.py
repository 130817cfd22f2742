"""`aquifer status`: parts, versions, backlog."""

import asyncio

import grpc

from aquifer.inference.v1.inference_service_pb2 import ListModelsRequest
from aquifer.ops.v1.status_service_pb2 import GetStatusRequest, GetStatusResponse
from aquifer.ops.v1.status_service_pb2_grpc import StatusServiceStub
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError, from_rpc

ASK_S = 5.0
SERVICES = ("auth", "ingest", "inference", "query")


async def gather(client: Client) -> dict[str, object]:
    """What every service says of itself; one that does not answer is said to be away."""
    try:
        await client.credentials()
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    parts = await asyncio.gather(*(_part(client, service) for service in SERVICES))
    return {"parts": parts, "models": await _models(client)}


async def _part(client: Client, service: str) -> dict[str, object]:
    address = getattr(client.endpoints, service)
    try:
        answer: GetStatusResponse = await client.call(
            StatusServiceStub(client.channels[service]).GetStatus,
            GetStatusRequest(),
            timeout_s=ASK_S,
        )
    except CommandError as error:
        return {"service": service, "address": address, "ready": False, "not_ready": [error.reason]}
    return {
        "service": service,
        "address": address,
        "version": answer.version,
        "ready": answer.ready,
        "not_ready": list(answer.not_ready),
        "consumers": [
            {
                "durable": consumer.durable,
                "pending": consumer.pending,
                "in_flight": consumer.in_flight,
                "paused": consumer.paused,
                "pause_reason": consumer.pause_reason,
            }
            for consumer in answer.consumers
        ],
        "stages": [
            {
                "stage": stage.stage,
                "tenant": stage.tenant,
                "documents": stage.documents,
                "oldest_age_s": round(stage.oldest_age_s, 1),
            }
            for stage in answer.stages
        ],
    }


async def _models(client: Client) -> list[dict[str, object]]:
    try:
        answer = await client.call(
            client.inference.ListModels, ListModelsRequest(), timeout_s=ASK_S
        )
    except CommandError:
        return []
    return [
        {
            "name": model.name,
            "engine": model.engine,
            "precision": model.precision,
            "generative": model.generative,
            "dimensions": model.dimensions,
        }
        for model in answer.models
    ]
