"""What an upload of given bytes would do to a document."""

from dataclasses import dataclass
from enum import StrEnum

from aquifer.structs import JsonObject
from ingest.domain import Version
from ingest.labels import Labels


class CheckResult(StrEnum):
    """What an upload would do, named as in the contract."""

    UNCHANGED = "UNCHANGED"
    CHANGED = "CHANGED"
    NEW = "NEW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The bytes that a client has for a document.

    `media_type` may be empty. `described` says whether title, metadata and `labels`, if there are
    any, count as well.
    """

    name: str
    sha256: str
    media_type: str = ""
    described: bool = False
    title: str = ""
    metadata: JsonObject
    labels: tuple[str, ...] = ()

    def compare(self, newest: Version | None, labels: Labels) -> CheckResult:
        """What an upload would do if this is the newest version; None: there is none."""
        if newest is None:
            return CheckResult.NEW
        same = newest.is_same(self.media_type, self.sha256) and (
            not self.described
            or (
                newest.is_described_by(self.title, self.metadata)
                and (not self.labels or (labels.own and labels.names == self.labels))
            )
        )
        return CheckResult.UNCHANGED if same else CheckResult.CHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The answer to a check; `duplicate_of` is another document with the same bytes, or empty."""

    check: Check
    newest: Version | None
    labels: Labels
    duplicate_of: str

    @property
    def result(self) -> CheckResult:
        """What an upload would do."""
        return self.check.compare(self.newest, self.labels)
