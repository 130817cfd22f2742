"""What the parent asks of a child, beside the document; imported on every start."""

from typing import NamedTuple


class Task(NamedTuple):
    """`charset` is a hint and may be empty; the sizes are those of `ChunkSettings`.

    `cpu_s`: processor time from here on.
    """

    charset: str
    target_chars: int
    max_chars: int
    cpu_s: int
