"""Finds the addresses of the services: in the environment, or in the data folder of a stack."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aquifer.services import NAMES, address_variable
from aquifer_cli.errors import EXIT_USAGE, CommandError

FILE = "endpoints.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses of the services, and an API key.

    Attributes:
        services: address of each service as host:port.
        traces: URL of a Tempo-compatible API; empty if there is none.
        nats: URL of the broker, for an upstream system of the tenant.
        parts: address of each part that is not a service; only for a stack on this machine.
        data_dir: data folder of such a stack.
    """

    services: Mapping[str, str]
    traces: str
    tenant: str
    api_key: str = field(repr=False)
    nats: Mapping[str, str] = field(default_factory=dict, repr=False)
    parts: Mapping[str, str] = field(default_factory=dict)
    data_dir: str = ""


def default_data_dir() -> Path:
    """The default data folder: `AQUIFER_HOME`, or else a folder of this user.

    PostgreSQL refuses to run as root, and its own user cannot access root's home, so root's data
    is under /var/lib.
    """
    named = os.environ.get("AQUIFER_HOME")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/aquifer")
    shared = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(shared) / "aquifer"


def make_data_dir(folder: Path) -> Path:
    """Resolves a data folder and creates it if it is missing.

    Raises:
        CommandError: DATA_DIR_UNUSABLE.
    """
    why = ""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        why = error.strerror or str(error)
    if why or not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(
            "DATA_DIR_UNUSABLE",
            f"{folder}: {why or 'Permission denied'}",
            hint="name another folder with --data-dir or AQUIFER_HOME",
            exit_code=EXIT_USAGE,
        )
    return folder.absolute()


def find(data_dir: Path | None) -> Endpoints:
    """Reads the endpoints from the environment, or else from the data folder.

    Raises:
        CommandError: NOT_RUNNING, ENDPOINTS_UNREADABLE, ENDPOINTS_INCOMPLETE.
    """
    if data_dir is None and "AQUIFER_API_KEY" in os.environ:
        return _from_environment()
    folder = data_dir or default_data_dir()
    file = folder / FILE
    try:
        return _read(file)
    except FileNotFoundError as error:
        raise CommandError(
            "NOT_RUNNING",
            f"no stack is running in {folder}",
            hint="start one with `aquifer up`, or name its folder with --data-dir or AQUIFER_HOME",
            exit_code=EXIT_USAGE,
        ) from error
    except OSError as error:
        owner = "only the user who started the stack may read its addresses and first key"
        raise CommandError(
            "ENDPOINTS_UNREADABLE",
            f"{file}: {error.strerror}",
            hint=owner if isinstance(error, PermissionError) else "",
            exit_code=EXIT_USAGE,
        ) from error
    except ValueError as error:
        raise CommandError(
            "ENDPOINTS_UNREADABLE", f"{file} is not valid JSON: {error}", exit_code=EXIT_USAGE
        ) from error


def _read(file: Path) -> Endpoints:
    known = json.loads(file.read_text())
    given = known if isinstance(known, dict) else {}
    names = ("traces", "tenant", "api_key")
    missing = [name for name in (*NAMES, *names) if not isinstance(given.get(name), str)]
    if missing:
        raise CommandError(
            "ENDPOINTS_INCOMPLETE", f"{file} lacks {', '.join(missing)}", exit_code=EXIT_USAGE
        )
    return Endpoints(
        services={name: given[name] for name in NAMES},
        **{name: given[name] for name in names},
        nats=given.get("nats", {}),
        parts=given.get("parts", {}),
        data_dir=given.get("data_dir", ""),
    )


def _from_environment() -> Endpoints:
    names = {name: address_variable(name) for name in NAMES}
    missing = [variable for variable in names.values() if variable not in os.environ]
    if missing:
        raise CommandError(
            "ENDPOINTS_INCOMPLETE",
            f"AQUIFER_API_KEY is set, but not {', '.join(missing)}",
            hint="set them all, or use --data-dir",
            exit_code=EXIT_USAGE,
        )
    return Endpoints(
        services={name: os.environ[variable] for name, variable in names.items()},
        traces=os.environ.get("AQUIFER_TRACES_URL", ""),
        tenant="",
        api_key=os.environ["AQUIFER_API_KEY"],
    )
