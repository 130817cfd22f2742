"""`aquifer status`: parts, versions, backlog."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aquifer.inference.v1.inference_service_pb2 import ListModelsRequest
from aquifer.ops.v1.status_service_pb2 import GetStatusRequest, GetStatusResponse
from aquifer.ops.v1.status_service_pb2_grpc import StatusServiceStub
from aquifer.services import NAMES
from aquifer_cli import servers
from aquifer_cli.client import Client
from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.errors import EXIT_UNAVAILABLE, HINTS, CommandError
from aquifer_cli.launch import spell_commands
from aquifer_cli.layout import Row
from aquifer_cli.models import state_name
from aquifer_cli.screen import Screen

# 5 s in all: first the token, then all parts concurrently.
SIGN_IN_S = 1.5
ASK_S = 2.5
GIGABYTE = 10**9


async def gather(client: Client) -> dict[str, Any]:
    """The state of every part; a value that cannot be read is None.

    Raises:
        CommandError: no service answers, or the key is not accepted or lacks the scope.
    """
    asked = asyncio.create_task(servers.gather(client.endpoints))
    try:
        async with asyncio.timeout(SIGN_IN_S):
            await client.sign_in()
    except (CommandError, TimeoutError) as error:
        if isinstance(error, CommandError) and error.exit_code != EXIT_UNAVAILABLE:
            raise
        return {
            "parts": await _check_without_token(client, error),
            "servers": await asked,
            "models": [],
        }
    parts, models = await asyncio.gather(
        run_concurrently(lambda service: _part(client, service), NAMES, len(NAMES)), _models(client)
    )
    return {"parts": parts, "servers": await asked, "models": models}


async def _check_without_token(client: Client, error: Exception) -> list[dict[str, object]]:
    """Without a token only reachability is known.

    Raises:
        CommandError: no service can be reached.
    """
    reachable = await asyncio.gather(*(_is_reachable(client, service) for service in NAMES))
    if not any(reachable):
        raise error if isinstance(error, CommandError) else _no_service_error(client)
    return [
        _unknown_row(
            client,
            service,
            "TOKEN_MISSING: answers, but only to a token of auth" if open_ else "UNAVAILABLE",
        )
        for service, open_ in zip(NAMES, reachable, strict=True)
    ]


def _no_service_error(client: Client) -> CommandError:
    addresses = ", ".join(client.endpoints.services.values())
    return CommandError(
        "UNAVAILABLE",
        f"no service answers at {addresses}",
        hint=HINTS["UNAVAILABLE"],
        exit_code=EXIT_UNAVAILABLE,
    )


async def _is_reachable(client: Client, service: str) -> bool:
    try:
        async with asyncio.timeout(ASK_S):
            await client.channels[service].channel_ready()
    except TimeoutError:
        return False
    return True


def _unknown_row(client: Client, service: str, reason: str) -> dict[str, object]:
    """A service with unknown state."""
    return {
        "service": service,
        "address": client.endpoints.services[service],
        "version": None,
        "ready": False,
        "not_ready": [reason],
        "consumers": None,
        "stages": None,
        "dead_letters": None,
    }


async def _part(client: Client, service: str) -> dict[str, object]:
    try:
        answer: GetStatusResponse = await client.call(
            StatusServiceStub(client.channels[service]).GetStatus,
            GetStatusRequest(),
            timeout_s=ASK_S,
        )
    except CommandError as error:
        # This only shows that the part answers.
        if error.of_key:
            raise
        return _unknown_row(client, service, error.reason)
    return {
        "service": service,
        "address": client.endpoints.services[service],
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
            for stage in answer.unfinished.stages
        ]
        if answer.HasField("unfinished")
        else None,
        # Also unset for a service that consumes nothing and so has no dead letters.
        "dead_letters": answer.dead_letters if answer.HasField("dead_letters") else None,
    }


async def _models(client: Client) -> list[dict[str, object]]:
    try:
        answer = await client.call(
            client.inference.ListModels, ListModelsRequest(), timeout_s=ASK_S
        )
    except CommandError:
        # The parts already show that inference is unavailable.
        return []
    return [
        {
            "name": model.name,
            "engine": model.engine,
            "precision": model.precision,
            "generative": model.generative,
            "dimensions": model.dimensions,
            "state": state_name(model),
            "problem": model.problem,
        }
        for model in answer.models
    ]


def show(screen: Screen, state: Mapping[str, Any]) -> None:
    """Shows the state to people; idle consumers are counted, not listed."""
    parts = state["parts"]
    screen.table(
        ["part", "ready", "version", "disk left", "address"],
        [_row(part["service"], part) for part in parts]
        + [_row(server["part"], server) for server in state["servers"]],
    )
    screen.say()
    _show_consumers(screen, parts)
    _show_stages(screen, parts)
    _show_dead_letters(screen, parts)
    screen.table(
        ["model", "engine", "precision", "state", "does"],
        [
            Row(
                cells=(m["name"], m["engine"], m["precision"], m["state"], _describe_model(m)),
                below=m["problem"],
            )
            for m in state["models"]
        ],
    )


def _row(name: str, part: Mapping[str, Any]) -> Row:
    ready = {True: "yes", False: "NO", None: "unknown"}[part["ready"]]
    free = part.get("disk_free_bytes")
    below = list(part["not_ready"])
    if part.get("store_bytes") is not None and part.get("store_max_bytes"):
        below.append(f"holds {_size(part['store_bytes'])} of {_size(part['store_max_bytes'])}")
    return Row(
        cells=(
            name,
            ready,
            part["version"] or "",
            "" if free is None else _size(free),
            part["address"],
        ),
        below="; ".join(below),
    )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= GIGABYTE else f"{count / 1e6:,.1f} MB"


def _list_unknown(parts: Sequence[Mapping[str, Any]], key: str) -> str:
    """The services whose state is unknown, as the end of a line."""
    names = [part["service"] for part in parts if part[key] is None]
    return f"; unknown of {', '.join(names)}" if names else ""


def _show_consumers(screen: Screen, parts: Sequence[Mapping[str, Any]]) -> None:
    consumers = [c for part in parts for c in part["consumers"] or ()]
    unknown = [c for c in consumers if c["pending"] is None]
    busy = [c for c in consumers if c["pending"] or c["in_flight"] or c["paused"]]
    uncounted = f", {len(unknown)} are unknown" if unknown else ""
    screen.say(
        f"backlog: {len(busy)} of {len(consumers)} consumers have work or wait{uncounted}"
        + _list_unknown(parts, "consumers")
    )
    screen.table(
        ["consumer", "pending", "in flight"],
        [
            Row(
                cells=(c["durable"], _render_count(c["pending"]), _render_count(c["in_flight"])),
                below=f"waits for {c['pause_reason']}" if c["paused"] else "",
            )
            for c in busy
        ],
    )
    screen.say()


def _render_count(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def _show_stages(screen: Screen, parts: Sequence[Mapping[str, Any]]) -> None:
    stages = [stage for part in parts for stage in part["stages"] or ()]
    known = any(part["stages"] is not None for part in parts)
    total = f"{sum(stage['documents'] for stage in stages):,}" if known else "unknown"
    screen.say(f"unfinished documents: {total}" + (_list_unknown(parts, "stages") if known else ""))
    screen.table(
        ["stage", "tenant", "documents", "oldest"],
        [
            Row(cells=(s["stage"], s["tenant"], s["documents"], f"{s['oldest_age_s']:.0f} s"))
            for s in stages
        ],
    )
    screen.say()


def _show_dead_letters(screen: Screen, parts: Sequence[Mapping[str, Any]]) -> None:
    found = [
        f"{part['dead_letters']:,} in {part['service']}" for part in parts if part["dead_letters"]
    ]
    # A service that consumes nothing has none.
    unknown = [
        part["service"]
        for part in parts
        if part["dead_letters"] is None and part["consumers"] != []
    ]
    if found or unknown:
        counts = ", ".join([*found, *(f"unknown in {name}" for name in unknown)])
        screen.say(
            spell_commands(f"dead letters: {counts}; `aquifer dead-letters list` shows them")
        )
        screen.say()


def _describe_model(model: Mapping[str, Any]) -> str:
    if model["dimensions"]:
        return f"embeds, {model['dimensions']} dimensions"
    return "composes answers" if model["generative"] else "quotes, does not compose"
