"""`aquifer keys`: lists, creates and revokes API keys."""

from collections.abc import Sequence
from datetime import UTC, datetime

from aquifer.auth.v1.auth_service_pb2 import (
    AccessLabels,
    ApiKey,
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
)
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

PAGE = 500


async def list_keys(client: Client, tenant: str) -> list[ApiKey]:
    """All keys of a tenant (empty: that of the key in use), newest first."""
    found: list[ApiKey] = []
    token = ""
    while True:
        request = ListApiKeysRequest(tenant=tenant, page_size=PAGE, page_token=token)
        page = await client.call(client.auth.ListApiKeys, request)
        found += page.keys
        token = page.next_page_token
        if not token:
            return found


async def create_key(
    client: Client,
    name: str,
    scopes: Sequence[str],
    *,
    labels: Sequence[str] | None,
    days: int,
    tenant: str,
) -> CreateApiKeyResponse:
    """Creates a key, with all labels if they are None; only this response contains it."""
    request = CreateApiKeyRequest(
        display_name=name,
        scopes=scopes,
        valid_days=days,
        tenant=tenant,
        access_labels=None if labels is None else AccessLabels(labels=labels),
    )
    made: CreateApiKeyResponse = await client.call(client.auth.CreateApiKey, request)
    return made


async def revoke_key(client: Client, key_id: str, *, tenant: str, own: bool) -> ApiKey:
    """Revokes a key.

    Raises:
        CommandError: KEY_OWN, it is the key in use and `own` is false; otherwise as the service.
    """
    if not own and _read_id(client.endpoints.api_key) == key_id:
        raise CommandError(
            "KEY_OWN",
            "this is the key that this command uses; without it no further command works",
            hint="create another key first, then repeat the command with --own",
            exit_code=EXIT_USAGE,
        )
    request = RevokeApiKeyRequest(key_id=key_id, tenant=tenant)
    revoked: ApiKey = await client.call(client.auth.RevokeApiKey, request)
    return revoked


def _read_id(api_key: str) -> str:
    """The public id, the second part of `aqf_<key id>_<secret>_<checksum>`."""
    return "".join(api_key.split("_")[1:2])


def state_name(key: ApiKey) -> str:
    """`ACTIVE`, `EXPIRED` or `REVOKED`."""
    if key.HasField("revoke_time"):
        return "REVOKED"
    expired = key.expire_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    return "EXPIRED" if expired else "ACTIVE"


def as_json(key: ApiKey) -> dict[str, object]:
    """A key for machines, without its secret."""
    revoked = key.HasField("revoke_time")
    return {
        "key_id": key.key_id,
        "name": key.display_name,
        "scopes": list(key.scopes),
        "labels": list(key.access_labels.labels) if key.HasField("access_labels") else None,
        "state": state_name(key),
        "create_time": key.create_time.ToDatetime(tzinfo=UTC).isoformat(),
        "expire_time": key.expire_time.ToDatetime(tzinfo=UTC).isoformat(),
        "revoke_time": key.revoke_time.ToDatetime(tzinfo=UTC).isoformat() if revoked else "",
    }


def show_keys(screen: Screen, keys: Sequence[ApiKey]) -> None:
    """A table for people."""
    rows = [
        Row(
            cells=(state_name(key), key.key_id, _format_day(key), key.display_name),
            below=f"scopes {' '.join(key.scopes)}{_render_labels(key)}",
        )
        for key in keys
    ]
    screen.table(["state", "key id", "expires", "name"], rows)
    screen.say(f"{len(keys):,} {'key' if len(keys) == 1 else 'keys'}")


def _render_labels(key: ApiKey) -> str:
    """The labels of a key that has not all."""
    if not key.HasField("access_labels"):
        return ""
    return f"; labels {' '.join(key.access_labels.labels) or 'none'}"


def _format_day(key: ApiKey) -> str:
    return f"{key.expire_time.ToDatetime(tzinfo=UTC):%Y-%m-%d}"


def show_new_key(screen: Screen, made: CreateApiKeyResponse) -> None:
    """The key alone on stdout, so that a script can store it; what to know on stderr."""
    screen.say(made.api_key)
    screen.note(
        f"Store this key now: it is not shown again. It is valid until {_format_day(made.key)};"
        f" `aquifer keys revoke {made.key.key_id}` ends it earlier."
    )
