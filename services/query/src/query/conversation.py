"""Conversations: their settings and messages, and the rules of both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from chassis.base.errors import FieldViolation, InvalidInputError, NotFoundError
from query.answer import OUTPUT_TOKENS_MAX, Citation, FinishReason
from query.filters.language import parse_filter
from query.names import check_attached, name_collections
from query.prompt import is_reference

TITLE_MAX_CHARS: Final = 200
MODEL_MAX_CHARS: Final = 256
REQUEST_ID_MAX_CHARS: Final = 128
# Of a title made from a question.
MADE_TITLE_CHARS: Final = 80
CONVERSATIONS_MAX: Final = 100_000
MESSAGES_MAX: Final = 1_000
LAST_MESSAGES_MAX: Final = 10
MASK: Final = (
    "title",
    "model",
    "collection",
    "collections",
    "documents",
    "filter",
    "max_output_tokens",
    "prompt",
)

_NAME: Final = re.compile("conversations/([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose conversations they are."""

    tenant: str
    principal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a conversation.

    `collection` and `collections` are ids, see `name_collections`, `documents` resource names,
    `filter` is a text as of a search, `max_output_tokens` 0 for the usual length, `prompt` a
    resource name.
    """

    title: str = ""
    model: str = ""
    collection: str = ""
    collections: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    filter: str = ""
    max_output_tokens: int = 0
    prompt: str = ""

    def check(self) -> None:
        """Checks settings that were given; those of a store were given once.

        Raises:
            InvalidInputError: CONVERSATION_RANGE, COLLECTION_NAME, COLLECTIONS_COUNT,
                DOCUMENT_NAME, DOCUMENTS_COUNT, FILTER_INVALID.
        """
        violations = list(self._find_violations())
        if violations:
            raise InvalidInputError(
                "CONVERSATION_RANGE",
                "a setting of the conversation is out of range",
                fields=violations,
            )
        name_collections(self.collection, self.collections)
        check_attached(self.documents)
        parse_filter(self.filter)

    def update(self, given: "Settings", paths: Sequence[str]) -> "Settings":
        """The settings with those of `given` that a mask names; an empty one or `*` names all.

        Raises:
            InvalidInputError: UPDATE_MASK; COLLECTIONS_COUNT, new and old ones together.
        """
        chosen = MASK if list(paths) in ([], ["*"]) else tuple(paths)
        for path in chosen:
            if path not in MASK:
                raise InvalidInputError(
                    "UPDATE_MASK",
                    f"an update mask cannot name {path[:100]!r}",
                    fields=[FieldViolation("update_mask", ", ".join(MASK) + ", or `*` alone")],
                    path=path[:100],
                )
        changes: dict[str, Any] = {path: getattr(given, path) for path in chosen}
        changed = replace(self, **changes)
        name_collections(changed.collection, changed.collections)
        return changed

    def _find_violations(self) -> Sequence[FieldViolation]:
        checks = {
            "title": (
                len(self.title) <= TITLE_MAX_CHARS and "\x00" not in self.title,
                f"at most {TITLE_MAX_CHARS} characters, no NUL",
            ),
            "model": (
                len(self.model) <= MODEL_MAX_CHARS and "\x00" not in self.model,
                f"at most {MODEL_MAX_CHARS} characters, no NUL",
            ),
            "max_output_tokens": (
                0 <= self.max_output_tokens <= OUTPUT_TOKENS_MAX,
                f"0 to {OUTPUT_TOKENS_MAX}",
            ),
            "prompt": (is_reference(self.prompt), "prompts/{prompt} or prompts/{prompt}@{version}"),
        }
        return [FieldViolation(name, said) for name, (fits, said) in checks.items() if not fits]


class Role(Enum):
    """Who a message is from."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A question or an answer; `answer_id` and `reason` are those of an answer.

    `withheld`: the answer uses a document that is deleted or that the reader may not see. Its text
    is then empty and its reason None. `citations` are there only if they were asked for.
    """

    number: int
    role: Role
    text: str
    created_at: datetime
    answer_id: UUID | None = None
    reason: FinishReason | None = None
    withheld: bool = False
    citations: Sequence[Citation] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation; `active_at` is when it got its last message, or was created."""

    conversation_id: UUID
    settings: Settings
    message_count: int
    created_at: datetime
    updated_at: datetime
    active_at: datetime
    last_messages: Sequence[Message] = ()


def read_conversation_id(name: str) -> UUID:
    """The id in a resource name; what is no such name, no conversation has.

    Raises:
        NotFoundError: CONVERSATION_UNKNOWN.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise unknown_conversation_error()
    return UUID(found[1])


def make_name(conversation_id: UUID) -> str:
    """The resource name."""
    return f"conversations/{conversation_id}"


def make_title(question: str) -> str:
    """The start of a question on one line, cut between words if possible."""
    line = " ".join(question.split())
    if len(line) <= MADE_TITLE_CHARS:
        return line
    cut = line[:MADE_TITLE_CHARS]
    return f"{cut.rpartition(' ')[0] or cut}…"


def check_request_id(request_id: str) -> None:
    """Checks a request id; it may be empty.

    Raises:
        InvalidInputError: REQUEST_ID_INVALID.
    """
    if len(request_id) > REQUEST_ID_MAX_CHARS or not request_id.isprintable():
        raise InvalidInputError(
            "REQUEST_ID_INVALID",
            f"request_id is longer than {REQUEST_ID_MAX_CHARS} characters or contains control"
            " characters",
            fields=[FieldViolation("request_id", f"at most {REQUEST_ID_MAX_CHARS} characters")],
            max_chars=REQUEST_ID_MAX_CHARS,
        )


def check_last_messages(count: int) -> None:
    """Checks how many last messages a list is to have.

    Raises:
        InvalidInputError: MESSAGES_RANGE.
    """
    if not 0 <= count <= LAST_MESSAGES_MAX:
        name = "messages_per_conversation"
        raise InvalidInputError(
            "MESSAGES_RANGE",
            f"{name} must be in 0..{LAST_MESSAGES_MAX}",
            fields=[FieldViolation(name, f"0 to {LAST_MESSAGES_MAX}")],
            max_messages=LAST_MESSAGES_MAX,
        )


def unknown_conversation_error() -> NotFoundError:
    """The same error for one that does not exist and for one of another principal or tenant."""
    return NotFoundError(
        "CONVERSATION_UNKNOWN", "no conversation of this key has this name; check name and key"
    )
