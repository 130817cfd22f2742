"""The text of a message for a model that writes: passages are fenced, so they read as data."""

import re
from html import escape

from inference.generation import Generation, Message, PassageBlock

# A passage could end its own fence, or begin another one with a number of its choice.
_FENCE = re.compile(r"<\s*(/?)\s*(?=passages?\b)", re.IGNORECASE)


def to_texts(request: Generation) -> list[str]:
    """The text of each message; passages are numbered from 1 over all of them."""
    texts, first = [], 1
    for message in request.messages:
        text, first = _to_text(message, first)
        texts.append(text)
    return texts


def _to_text(message: Message, first: int) -> tuple[str, int]:
    written = []
    for part in message.parts:
        if isinstance(part, str):
            written.append(part)
        else:
            written.append(_fence(part, first))
            first += len(part)
    return "\n\n".join(written), first


def _fence(passages: PassageBlock, first: int) -> str:
    numbered = [
        f'<passage number="{number}"{_title(passage.title)}>\n{_defuse(passage.text)}\n</passage>'
        for number, passage in enumerate(passages, start=first)
    ]
    return "\n".join(["<passages>", *numbered, "</passages>"])


def _title(title: str) -> str:
    return f' title="{escape(title)}"' if title else ""


def _defuse(text: str) -> str:
    return _FENCE.sub(r"< \1", text)
