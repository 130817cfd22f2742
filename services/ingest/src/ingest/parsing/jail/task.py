"""The parameters that the parent sends to a child with the document."""

from typing import NamedTuple


class Task(NamedTuple):
    """`charset` is a hint and may be empty, as the password; the sizes are of `ChunkSettings`.

    `cpu_s`: processor time from the receipt of the document.
    """

    charset: str
    password: str
    target_chars: int
    max_chars: int
    cpu_s: int
