"""The form of access labels, see `aquifer.ingest.v1.Document.labels`."""

import re
from collections.abc import Sequence
from typing import Final

DOCUMENT_LABELS_MAX: Final = 16
KEY_LABELS_MAX: Final = 32

_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def find_problem(labels: Sequence[str], most: int = DOCUMENT_LABELS_MAX) -> str:
    """What is wrong with these labels, and what to do; empty if nothing is."""
    for label in labels:
        if not _LABEL.fullmatch(label):
            return f"{label[:63]!r}: use 1 to 63 of a-z 0-9 . _ -, a letter or digit first"
    if len(set(labels)) > most:
        return f"{len(set(labels))} labels; give at most {most}"
    return ""
