"""The commands of administrators: bus, keys and tenants. They follow those of everyone.

Like all commands they import what they need when they run.
"""

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click

from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_collections import cli
from aquifer_cli.errors import EXIT_FAILED, EXIT_USAGE, CommandError
from aquifer_cli.launch import command_of

if TYPE_CHECKING:
    from aquifer.auth.v1.auth_service_pb2 import Tenant

__all__ = ["cli"]

_TENANT = click.option(
    "--tenant",
    default="",
    help="Tenant of the key; default: that of the key in use. Another one needs tenants.admin.",
)


@cli.group(cls=Commands)
def bus() -> None:
    """Creates and updates the streams of the event bus."""


@command(
    bus,
    "apply",
    folder=False,
    examples="""\
  AQUIFER_NATS_URL=nats://127.0.0.1:4222 AQUIFER_NATS_USER=provisioner \\
  AQUIFER_NATS_PASSWORD=... aquifer bus apply --replicas 3""",
)
@click.option(
    "--replicas",
    default="1",
    show_default=True,
    type=click.Choice(["1", "3", "5"]),
    help="Copies of each stream.",
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Maximum time in seconds.",
)
def apply(run: Run, replicas: str, timeout: float) -> int:
    """Creates and updates streams and durables as the contract requires.

    Prints the differences. Needs AQUIFER_NATS_URL, AQUIFER_NATS_USER and AQUIFER_NATS_PASSWORD of
    the provisioning user. `aquifer up` does this for its own bus.
    """
    if not os.environ.get("AQUIFER_NATS_URL"):
        raise CommandError(
            "SETTING_MISSING",
            "AQUIFER_NATS_URL is not set",
            hint="`aquifer bus apply --help` lists the settings; `aquifer up` needs none of them",
            exit_code=EXIT_USAGE,
        )
    line = command_of("chassis.events.provision", "apply", "--replicas", replicas)
    line += ["--timeout", str(timeout)]
    line += ["--json"] if run.screen.machine else []
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CommandError(
            "BUS_NOT_APPLIED",
            done.stderr.strip().rpartition("\n")[2].rstrip(" :"),
            hint="check AQUIFER_NATS_URL, AQUIFER_NATS_USER and AQUIFER_NATS_PASSWORD",
        )
    return 0


@cli.group(cls=Commands)
def keys() -> None:
    """Lists, creates and revokes API keys.

    The key in use needs the scope keys.admin; for another tenant, tenants.admin as well.
    """


@command(
    keys,
    "list",
    examples="""\
  aquifer keys list
  aquifer keys list --tenant acme --json | jq -r 'select(.state == "ACTIVE").key_id'""",
)
@_TENANT
def list_keys(run: Run, tenant: str) -> int:
    """Lists the keys of a tenant, newest first, without their secrets."""
    from aquifer_cli import keys as administration

    found = run.with_client(lambda client: administration.list_keys(client, tenant))
    if run.screen.machine:
        for key in found:
            run.screen.record(administration.as_json(key))
    administration.show_keys(run.screen, found)
    return 0


@command(
    keys,
    "create",
    examples="""\
  aquifer keys create reader -s search -s ask
  aquifer keys create importer -s documents.write --days 30
  aquifer keys create people -s search -s ask --label hr
  aquifer keys create first --tenant acme -s keys.admin -s documents.write -s search -s ask""",
)
@click.argument("name")
@click.option(
    "--scope",
    "-s",
    "scopes",
    multiple=True,
    required=True,
    help="What the key may do; repeat it for several: documents.read, documents.write, search, "
    "ask, models, keys.admin, tenants.admin, operate. At most those of the key in use.",
)
@click.option(
    "--days",
    default=90,
    show_default=True,
    type=click.IntRange(1, 365),
    help="Days until it expires.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="The key sees documents with this label and those without labels; can be repeated.",
)
@click.option("--no-labels", is_flag=True, help="The key sees only documents without labels.")
@_TENANT
def create_key(
    run: Run,
    name: str,
    scopes: tuple[str, ...],
    labels: tuple[str, ...],
    days: int,
    tenant: str,
    *,
    no_labels: bool,
) -> int:
    """Creates a key and shows it, this once.

    NAME says what it is for. The key is the only line on stdout; store it at once, because it
    cannot be read again. Without --label and --no-labels it sees all documents of its tenant.
    """
    from aquifer_cli import keys as administration

    if labels and no_labels:
        raise click.UsageError("give --label or --no-labels, not both")
    held = labels if labels or no_labels else None
    made = run.with_client(
        lambda client: administration.create_key(
            client, name, scopes, labels=held, days=days, tenant=tenant
        )
    )
    if run.screen.machine:
        run.screen.record({"api_key": made.api_key, **administration.as_json(made.key)})
    administration.show_new_key(run.screen, made)
    return 0


@command(
    keys,
    "revoke",
    examples="""\
  aquifer keys revoke 4fK9sTq0bXz81LmP
  aquifer keys revoke 4fK9sTq0bXz81LmP --tenant acme""",
)
@click.argument("key_id")
@click.option("--own", is_flag=True, help="Also if it is the key that this command uses.")
@_TENANT
def revoke_key(run: Run, key_id: str, tenant: str, *, own: bool) -> int:
    """Revokes a key: within 5 s every service refuses it and its tokens.

    KEY_ID is the public id of the key, as `aquifer keys list` shows it. It cannot be undone.
    """
    from aquifer_cli import keys as administration

    revoked = run.with_client(
        lambda client: administration.revoke_key(client, key_id, tenant=tenant, own=own)
    )
    if run.screen.machine:
        run.screen.record(administration.as_json(revoked))
    run.screen.say(f"{revoked.key_id}: REVOKED, within 5 s every service refuses it")
    return 0


@cli.group(cls=Commands)
def tenants() -> None:
    """Lists, creates, suspends, resumes and deletes tenants.

    The key in use needs the scope tenants.admin.
    """


@command(
    tenants,
    "list",
    examples="""\
  aquifer tenants list
  aquifer tenants list --json | jq -r 'select(.state == "SUSPENDED").tenant'""",
)
def list_tenants(run: Run) -> int:
    """Lists all tenants, ordered by id."""
    from aquifer_cli import tenants as administration

    found = run.with_client(administration.list_tenants)
    if run.screen.machine:
        for tenant in found:
            run.screen.record(administration.as_json(tenant))
    administration.show_tenants(run.screen, found)
    return 0


@command(
    tenants,
    "create",
    examples="""\
  aquifer tenants create acme --name "Acme Ltd"
  aquifer keys create first --tenant acme -s keys.admin -s documents.write -s search -s ask""",
)
@click.argument("tenant")
@click.option("--name", default="", help="Name shown to people; default: the id.")
def create_tenant(run: Run, tenant: str, name: str) -> int:
    """Creates a tenant; it has no key yet.

    TENANT is its id: 1 to 63 of a-z 0-9 and -. Tenants share no data.
    """
    from aquifer_cli import tenants as administration

    created = run.with_client(
        lambda client: administration.create_tenant(client, tenant, name or tenant)
    )
    _show(run, created, "")
    run.screen.note(
        f"next: its first key, `aquifer keys create NAME --tenant {created.tenant} -s keys.admin"
        " -s documents.write -s search -s ask`"
    )
    return 0


@command(tenants, "suspend", examples="  aquifer tenants suspend acme")
@click.argument("tenant")
def suspend_tenant(run: Run, tenant: str) -> int:
    """Suspends a tenant: within 5 s every service refuses its keys and ends its calls.

    Nothing is deleted; `aquifer tenants resume` ends it. Upload events that arrive meanwhile are
    refused.
    """
    from aquifer_cli import tenants as administration

    suspended = run.with_client(lambda client: administration.suspend_tenant(client, tenant))
    _show(run, suspended, ", within 5 s every service refuses its keys")
    return 0


@command(tenants, "resume", examples="  aquifer tenants resume acme")
@click.argument("tenant")
def resume_tenant(run: Run, tenant: str) -> int:
    """Ends the suspension of a tenant: within 5 s every service accepts its keys again."""
    from aquifer_cli import tenants as administration

    resumed = run.with_client(lambda client: administration.resume_tenant(client, tenant))
    _show(run, resumed, ", within 5 s every service accepts its keys")
    return 0


@command(
    tenants,
    "delete",
    examples="""\
  aquifer tenants delete acme
  aquifer tenants delete acme --yes --json""",
)
@click.argument("tenant")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
def delete_tenant(run: Run, tenant: str, *, yes: bool) -> int:
    """Deletes a tenant with everything it has, for good.

    Within 5 s every service refuses its keys and ends its calls. Then its documents, collections,
    answers and uploads are removed from every store; the receipt says how much from which. Its id
    is never used again. The command can be stopped at any time: the services go on, and the same
    command shows the rest.
    """
    from aquifer_cli import tenants as administration

    if not yes:
        if not (run.screen.animated and sys.stdin.isatty()):
            raise click.UsageError("nobody can be asked here; add --yes to delete the tenant")
        question = f"delete the tenant {tenant} with everything it has, for good?"
        if not click.confirm(question, err=True):
            run.screen.note("nothing was changed")
            return EXIT_FAILED
    deletion = run.with_client(
        lambda client: administration.delete_tenant(client, run.screen, tenant)
    )
    if run.screen.machine:
        run.screen.record(administration.deletion_as_json(deletion))
    administration.show_deletion(run.screen, deletion)
    return 0


def _show(run: Run, tenant: "Tenant", then: str) -> None:
    from aquifer_cli import tenants as administration

    if run.screen.machine:
        run.screen.record(administration.as_json(tenant))
    run.screen.say(f"{tenant.tenant}: {administration.state_name(tenant)}{then}")
