"""The outcome of sending one document."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aquifer.ingest.v1.document_pb2 import Document, Note
from aquifer_cli.documents import notes_json, state_name
from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError

TEMPORARY = {
    "BACKLOG_FULL",
    "CALLS_OPEN",
    "CALL_CUT",
    "DEADLINE_EXCEEDED",
    "UPLOADS_FULL",
    "UPLOAD_OFFSET",
    "UPLOAD_UNKNOWN",
    "WATCHERS_FULL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one item, as far as it is known.

    NOT_SENT: given up before the service accepted or refused it. `notes`: what had to be guessed
        or repaired, once it is parsed. `same_content`: some other documents with the same bytes.
    `unreachable`: no service answered. `change`: NEW, CHANGED or UNCHANGED; empty if that is not
        known.
    """

    path: str
    document: str
    version: int = 0
    state: str = "REFUSED"
    reason: str = ""
    detail: str = ""
    notes: Sequence[Note] = ()
    same_content: Sequence[str] = ()
    unreachable: bool = False
    change: str = ""

    @property
    def failed(self) -> bool:
        """True if it will not become searchable, or that is unknown, unless it was skipped."""
        if self.state in {"DELETING", "DELETED"}:
            return True
        return bool(self.reason) and self.state != "SKIPPED"

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "path": self.path,
            "document": self.document,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
            "notes": notes_json(self.notes),
            "same_content": list(self.same_content),
        }


def outcome_of(path: str, document: Document) -> Outcome:
    """The outcome that the service reports."""
    return Outcome(
        path=path,
        document=document.name,
        version=document.version,
        state=state_name(document.state),
        reason=document.reason,
        detail=document.reason_detail,
        notes=document.notes,
        same_content=document.same_content,
    )


def give_up(outcome: Outcome, error: CommandError) -> Outcome:
    """The outcome with the error that ended it."""
    unreachable = error.exit_code == EXIT_UNAVAILABLE
    return replace(outcome, reason=error.reason, detail=error.detail, unreachable=unreachable)


def is_temporary(error: CommandError) -> bool:
    """True if the same call may succeed later."""
    return error.exit_code == EXIT_UNAVAILABLE or error.reason in TEMPORARY
