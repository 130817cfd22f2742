"""Files of models, which must be the published ones."""

import hashlib
from mmap import ACCESS_READ, mmap
from pathlib import Path

from chassis.base.errors import DataLossError


def read_checked(path: Path, sha256: str) -> bytes:
    """The bytes of a file, if they have this digest.

    Raises:
        DataLossError: MODEL_ALTERED.
    """
    content = path.read_bytes()
    _check_digest(path, hashlib.sha256(content).hexdigest(), sha256)
    return content


def map_checked(path: Path, sha256: str) -> mmap:
    """The same in pages that the operating system reads, and drops, as it needs them.

    Raises:
        DataLossError: MODEL_ALTERED.
    """
    with path.open("rb") as file:
        # Not by way of the mapping: all its pages would count as memory of the process.
        _check_digest(path, hashlib.file_digest(file, "sha256").hexdigest(), sha256)
        return mmap(file.fileno(), 0, access=ACCESS_READ)


def _check_digest(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise DataLossError(
            "MODEL_ALTERED",
            f"{path.name} is not the published file (SHA-256 {found}, expected {sha256});"
            " install inference again",
            file=path.name,
            found=found,
            expected=sha256,
        )
