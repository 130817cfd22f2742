"""Splits texts into windows for a server that has the tokenizer, and finds the text again."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from inference.engine import Ids

# The tokens that a model adds to each text.
SPECIAL_TOKENS: Final = 2
# Most languages have more bytes than that in a token; a window that is too long is refused.
BYTES_PER_TOKEN: Final = 4


def window_bytes(max_tokens: int, *, is_refused: bool) -> int:
    """Bytes of UTF-8 in a window of so many tokens; see `PoolingSettings.refuses_long_texts`."""
    return (max_tokens - SPECIAL_TOKENS) * (BYTES_PER_TOKEN if is_refused else 1)


def split(text: str, max_bytes: int) -> Iterator[str]:
    """Parts of at most so many bytes of UTF-8, 4 or more, which joined are the text.

    A cut is at white space if there is some in the second half of a part.
    """
    rest = text.encode()
    while len(rest) > max_bytes:
        # A character that the cut goes through is left to the next part.
        part = rest[:max_bytes].decode(errors="ignore")
        if not part[-1].isspace():
            words = part[: -len(part.split()[-1])]
            part = words if len(words) > len(part) // 2 else part
        yield part
        rest = rest[len(part.encode()) :]
    yield rest.decode()


def to_ids(text: str) -> Ids:
    """The characters of a text, for an engine whose server has the tokens."""
    return np.frombuffer(text.encode("utf-32-le"), np.int32)


def to_text(ids: Ids) -> str:
    """The text of `to_ids`."""
    return ids.tobytes().decode("utf-32-le")
