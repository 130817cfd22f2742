"""`aquifer status`: parts, versions, backlog."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aquifer.inference.v1.inference_service_pb2 import ListModelsRequest
from aquifer.ops.v1.status_service_pb2 import GetStatusRequest, GetStatusResponse
from aquifer.ops.v1.status_service_pb2_grpc import StatusServiceStub
from aquifer.services import NAMES
from aquifer_cli.client import Client
from aquifer_cli.crowd import side_by_side
from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

ASK_S = 5.0


async def gather(client: Client) -> dict[str, Any]:
    """What every service says of itself; one that does not answer is said to be away.

    Raises:
        CommandError: nobody answers, or the key opens no door or not this one.
    """
    try:
        await client.sign_in()
    except CommandError as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
        return await _without_token(client, error)
    parts = await side_by_side(lambda service: _part(client, service), NAMES, len(NAMES))
    return {"parts": parts, "models": await _models(client)}


async def _without_token(client: Client, error: CommandError) -> dict[str, Any]:
    """Without auth nobody says more than that the port is open."""
    reachable = await asyncio.gather(*(_reachable(client, service) for service in NAMES))
    if not any(reachable):
        raise error
    parts = [
        {
            "service": service,
            "address": client.endpoints.services[service],
            "ready": False,
            "not_ready": ["TOKEN_MISSING: answers, but only to a token of auth"]
            if open_
            else ["UNAVAILABLE"],
        }
        for service, open_ in zip(NAMES, reachable, strict=True)
    ]
    return {"parts": parts, "models": []}


async def _reachable(client: Client, service: str) -> bool:
    try:
        async with asyncio.timeout(ASK_S / 2):
            await client.channels[service].channel_ready()
    except TimeoutError:
        return False
    return True


async def _part(client: Client, service: str) -> dict[str, object]:
    address = client.endpoints.services[service]
    try:
        answer: GetStatusResponse = await client.call(
            StatusServiceStub(client.channels[service]).GetStatus,
            GetStatusRequest(),
            timeout_s=ASK_S,
        )
    except CommandError as error:
        # Of the part this says nothing but that it answers.
        if error.of_key:
            raise
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
                "pending": consumer.pending if consumer.HasField("pending") else None,
                "in_flight": consumer.in_flight if consumer.HasField("in_flight") else None,
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
        "dead_letters": answer.dead_letters if answer.HasField("dead_letters") else None,
    }


async def _models(client: Client) -> list[dict[str, object]]:
    try:
        answer = await client.call(
            client.inference.ListModels, ListModelsRequest(), timeout_s=ASK_S
        )
    except CommandError:
        # That inference is away is told among the parts.
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


def show(screen: Screen, state: Mapping[str, Any]) -> None:
    """The same for people; what is idle is counted, not listed."""
    parts = state["parts"]
    screen.table(
        ["part", "ready", "version", "address"],
        [
            Row(
                cells=(
                    part["service"],
                    "yes" if part["ready"] else "NO",
                    part.get("version", ""),
                    part["address"],
                ),
                below="; ".join(part["not_ready"]),
            )
            for part in parts
        ],
    )
    screen.say()
    _show_consumers(screen, [c for part in parts for c in part.get("consumers", ())])
    _show_stages(screen, [stage for part in parts for stage in part.get("stages", ())])
    _show_dead_letters(screen, parts)
    screen.table(
        ["model", "engine", "precision", "does"],
        [Row(cells=(m["name"], m["engine"], m["precision"], _does(m))) for m in state["models"]],
    )


def _show_consumers(screen: Screen, consumers: Sequence[Mapping[str, Any]]) -> None:
    busy = [c for c in consumers if c["pending"] != 0 or c["in_flight"] or c["paused"]]
    screen.say(f"backlog: {len(busy)} of {len(consumers)} consumers have work or wait")
    screen.table(
        ["consumer", "pending", "in flight"],
        [
            Row(
                cells=(c["durable"], _known(c["pending"]), _known(c["in_flight"])),
                below=f"waits for {c['pause_reason']}" if c["paused"] else "",
            )
            for c in busy
        ],
    )
    screen.say()


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _show_stages(screen: Screen, stages: Sequence[Mapping[str, Any]]) -> None:
    total = sum(stage["documents"] for stage in stages)
    screen.say(f"unfinished documents: {total:,}")
    screen.table(
        ["stage", "tenant", "documents", "oldest"],
        [
            Row(cells=(s["stage"], s["tenant"], s["documents"], f"{s['oldest_age_s']:.0f} s"))
            for s in stages
        ],
    )
    screen.say()


def _show_dead_letters(screen: Screen, parts: Sequence[Mapping[str, Any]]) -> None:
    found = [f"{part['dead_letters']:,} in {part['service']}" for part in parts if _dead(part)]
    if found:
        screen.say(f"dead letters: {', '.join(found)}; docs/operations.md tells how to read them")
        screen.say()


def _dead(part: Mapping[str, Any]) -> bool:
    return bool(part.get("dead_letters"))


def _does(model: Mapping[str, Any]) -> str:
    if model["dimensions"]:
        return f"embeds, {model['dimensions']} dimensions"
    return "composes answers" if model["generative"] else "quotes, does not compose"
