"""The first tenant and its keys, created once per data folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.base.errors import DataLossError, UnavailableError

_REFUSED = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstKeys:
    """The output of `auth bootstrap`: the tenant, its first key, and a key for each service."""

    tenant: str
    api_key: str = field(repr=False)
    service_keys: Mapping[str, str] = field(repr=False)


def make_first_keys(path: Path, bootstrap: Callable[[Path], None]) -> FirstKeys:
    """The keys in `path`; if it does not exist, `bootstrap` writes them to the file it gets.

    `bootstrap` writes its file before its transaction commits. If it is killed, it is unknown
    whether the keys in the file are valid. The file is moved aside: if the next `bootstrap` is
    refused because keys exist, the keys in that file are the valid ones.

    Raises:
        UnavailableError: STEP_FAILED, raised by `bootstrap`.
        DataLossError: FIRST_KEYS_UNREADABLE.
    """
    if not path.exists():
        draft, doubtful = path.with_suffix(".new"), path.with_suffix(".doubtful")
        if draft.exists():
            draft.replace(doubtful)
        try:
            bootstrap(draft)
        except UnavailableError as error:
            if error.facts.get("exit_code") != _REFUSED or not doubtful.exists():
                raise
            doubtful.replace(path)
        else:
            draft.replace(path)
            doubtful.unlink(missing_ok=True)
    return read_first_keys(path)


def read_first_keys(path: Path) -> FirstKeys:
    """The keys in `path`, which exists.

    Raises:
        DataLossError: FIRST_KEYS_UNREADABLE.
    """
    try:
        return FirstKeys(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise DataLossError(
            "FIRST_KEYS_UNREADABLE",
            f"{path} does not contain tenant and keys; restore it from a backup",
            path=path,
        ) from error
