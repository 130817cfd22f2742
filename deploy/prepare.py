#!/usr/bin/env python3
"""Prepares what containers need before they start: secrets, server settings, roles, first keys.

Each step is a one-shot service of compose.yaml and can be repeated. `/data` stores everything and
is mounted only by these steps. Each folder of `/out` is the volume of one part and contains only
the secrets of that part.
"""

import argparse
import json
import os
import secrets as random
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aquifer.services import NAMES, WITH_TABLES
from chassis.base.errors import ServiceError, UnavailableError
from chassis.events import topology
from stack import roles, secrets
from stack.first_keys import FirstKeys, make_first_keys
from stack.nats_limits import LIMITS
from stack.private_files import write_private

DATA = Path("/data")
OUT = Path("/out")
NATS_STORE = "/var/lib/aquifer-nats"
SUPERUSER = "postgres"
PROVISIONER = "provisioner"
BOOTSTRAP_S = 90
# Streams reserve their whole `max_bytes`; this is left for the server itself.
_SPARE_BYTES = 1 << 30
_EVERYONE_READS = 0o444


def make_secrets() -> None:
    """Creates missing secrets, and writes the files of the servers and of the one-shots."""
    known = _secrets()
    settings = nats_settings(_grants(), known.nats)
    write_private(OUT / "nats" / "nats.conf", json.dumps(settings, indent=1))
    _write_for_server(OUT / "postgres" / "password", known.postgres[SUPERUSER])
    _write_for_server(
        OUT / "qdrant" / "config.yaml", json.dumps({"service": {"api_key": _qdrant_key()}})
    )
    for service in WITH_TABLES:
        _write_variables(
            OUT / "steps" / f"{service}.env",
            {"AQUIFER_POSTGRES_DSN": _dsn(known, f"{service}_owner")},
        )
    _write_variables(
        OUT / "steps" / "bus.env",
        {"AQUIFER_NATS_USER": PROVISIONER, "AQUIFER_NATS_PASSWORD": known.nats[PROVISIONER]},
    )


def make_roles() -> None:
    """Creates the database, its schemas and roles on the running PostgreSQL."""
    known = _secrets()
    roles.prepare(_dsn(known, SUPERUSER, database="postgres"), known.postgres)


def make_keys() -> None:
    """Creates the first tenant and its keys once, and writes the variables of each service."""
    known = _secrets()
    keys = make_first_keys(DATA / "first-keys.json", lambda output: _bootstrap(known, output))
    for service in NAMES:
        _write_variables(OUT / service / "env", service_variables(service, known, keys))


def show_keys() -> None:
    """Prints the variables of the `aquifer` command, and the user of the upstream system."""
    keys = make_first_keys(DATA / "first-keys.json", _refuse)
    upstream = _upstream()
    variables = {
        "AQUIFER_API_KEY": keys.api_key,
        **{name: value for name, value in os.environ.items() if name.endswith("_ADDRESS")},
        # Inference is not published, but the command needs an address: no server answers there.
        "AQUIFER_INFERENCE_ADDRESS": "127.0.0.1:9",
        "AQUIFER_UPSTREAM_NATS_USER": upstream,
        "AQUIFER_UPSTREAM_NATS_PASSWORD": _secrets().nats[upstream],
    }
    sys.stdout.write(_assignments(variables, "export "))


def nats_settings(
    grants: Mapping[str, topology.Permissions], passwords: Mapping[str, str]
) -> Mapping[str, object]:
    """The configuration as JSON, which the server also accepts.

    Args:
        grants: permissions of each user; there are no other users.
        passwords: one per user.
    """
    return {
        "server_name": "aquifer",
        "port": 4222,
        "http": "127.0.0.1:8222",
        **LIMITS,
        "jetstream": {
            "store_dir": NATS_STORE,
            # A write is on disk before it is acknowledged; the default syncs every two minutes.
            "sync_interval": "always",
            "max_memory_store": 64 << 20,
            "max_file_store": _SPARE_BYTES + sum(each.max_bytes for each in topology.streams()),
        },
        "accounts": {
            "AQUIFER": {
                "jetstream": "enabled",
                "users": [
                    {
                        "user": name,
                        "password": passwords[name],
                        "permissions": {
                            "publish": _only(grant.publish),
                            "subscribe": _only(grant.subscribe),
                        },
                    }
                    for name, grant in grants.items()
                ],
            }
        },
    }


def service_variables(service: str, known: secrets.Secrets, keys: FirstKeys) -> dict[str, str]:
    """The secret settings of a service; it gets only its own."""
    variables = {"AQUIFER_NATS_USER": service, "AQUIFER_NATS_PASSWORD": known.nats[service]}
    if service in keys.service_keys:
        variables["AQUIFER_SERVICE_KEY"] = keys.service_keys[service]
    if service in WITH_TABLES:
        variables["AQUIFER_POSTGRES_DSN"] = _dsn(known, service)
    match service:
        case "auth":
            variables["AQUIFER_AUTH_PEPPER"] = known.auth_pepper
            variables["AQUIFER_AUTH_SIGNING_KEY"] = known.auth_signing_key
        case "ingest":
            variables["AQUIFER_PASSWORD_KEY"] = known.password_key
        case "inference":
            variables["AQUIFER_CREDENTIAL_KEY"] = known.credential_key
        case "query":
            variables["AQUIFER_VECTORS_API_KEY"] = _qdrant_key()
    return variables


def _secrets() -> secrets.Secrets:
    return secrets.load(DATA / "secrets.json", nats=_grants(), postgres=(SUPERUSER, *roles.LOGINS))


def _grants() -> Mapping[str, topology.Permissions]:
    return {**topology.permissions(), _upstream(): topology.upstream_permissions(_tenant())}


def _tenant() -> str:
    return os.environ.get("AQUIFER_TENANT", "default")


def _upstream() -> str:
    return f"upstream-{_tenant()}"


def _qdrant_key() -> str:
    path = DATA / "qdrant-key"
    if not path.exists():
        write_private(path, random.token_urlsafe(secrets.PASSWORD_BYTES))
    return path.read_text()


def _dsn(known: secrets.Secrets, role: str, database: str = roles.DATABASE) -> str:
    # The passwords contain only characters that need no quoting in an address.
    return f"postgresql://{role}:{known.postgres[role]}@postgres:5432/{database}"


def _bootstrap(known: secrets.Secrets, output: Path) -> None:
    variables = {
        "AQUIFER_POSTGRES_DSN": _dsn(known, "auth"),
        "AQUIFER_AUTH_PEPPER": known.auth_pepper,
    }
    command = [sys.executable, "-m", "auth", "bootstrap", "--tenant", _tenant()]
    done = subprocess.run(  # noqa: S603  (words of this module and a tenant's id)
        [*command, "--output", str(output)],
        env=os.environ | variables,
        timeout=BOOTSTRAP_S,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(
            "STEP_FAILED",
            f"auth bootstrap ended with {done.returncode}",
            exit_code=done.returncode,
        )


def _refuse(output: Path) -> None:
    raise UnavailableError("NO_KEYS", f"{output} does not exist yet; run `docker compose up` first")


def _only(subjects: Sequence[str]) -> Mapping[str, object]:
    """Permissions for these subjects; the server treats an empty list as no restriction."""
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _write_variables(path: Path, variables: Mapping[str, str]) -> None:
    write_private(path, _assignments(variables))


def _assignments(variables: Mapping[str, str], prefix: str = "") -> str:
    return "".join(f"{prefix}{name}={shlex.quote(value)}\n" for name, value in variables.items())


def _write_for_server(path: Path, text: str) -> None:
    """Readable for all users: the image chooses its user. Only this server mounts the volume."""
    write_private(path, text)
    path.chmod(_EVERYONE_READS)


STEPS: Mapping[str, Callable[[], None]] = {
    "secrets": make_secrets,
    "roles": make_roles,
    "keys": make_keys,
    "show": show_keys,
}


def main() -> int:
    """Runs a step. Returns 0: done, 1: failed; the step can be repeated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    try:
        STEPS[parser.parse_args().step]()
    except ServiceError as error:
        sys.stderr.write(f"{error.reason}: {error}\n")
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
