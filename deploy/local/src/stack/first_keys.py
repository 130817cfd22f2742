"""The first tenant and its keys, made once for a data folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.base.errors import DataLossError, UnavailableError

_REFUSED = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstKeys:
    """What `auth bootstrap` leaves: the tenant, its first key, and a key for each service."""

    tenant: str
    api_key: str = field(repr=False)
    service_keys: Mapping[str, str] = field(repr=False)


def make_first_keys(path: Path, bootstrap: Callable[[Path], None]) -> FirstKeys:
    """The keys in `path`; when there are none, those `bootstrap` writes to the file it is given.

    `bootstrap` writes its file before its transaction commits, so one that was killed leaves a
    file of which nobody knows whether its keys count. That file is put aside: when the next
    `bootstrap` is refused, because somebody exists already, it held the keys that count.

    Raises:
        UnavailableError: STEP_FAILED, as `bootstrap` raised it.
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
            "FIRST_KEYS_UNREADABLE", f"{path} does not hold tenant and keys", path=path
        ) from error
