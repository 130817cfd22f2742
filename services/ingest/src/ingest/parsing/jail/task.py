"""The parameters that the parent sends to a child with the document."""

from collections.abc import Sequence
from typing import NamedTuple


class Task(NamedTuple):
    """`charset` is a hint and may be empty, as the password; the sizes are of `ChunkSettings`.

    `cpu_s`: processor time from the receipt of the document. `steps`: names of the steps that the
    collection has turned on.
    """

    charset: str
    target_chars: int
    max_chars: int
    cpu_s: int
    password: str = ""
    steps: Sequence[str] = ()
