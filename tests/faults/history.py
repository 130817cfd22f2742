"""Made-up evidence for tests: a journal of writers of one document, and the rows they leave."""

from pathlib import Path

from tests.faults.evidence import Evidence
from tests.faults.journal import Journal
from tests.faults.order import count_decided, order_violations

DOCUMENT = "collections/faults/documents/ordered"


class History:
    """A journal and the stores as they would be after it."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.jsonl")
        self.evidence = Evidence()
        self.sequence = 0
        self.live(0)

    def publish(self, *names: str, acked: bool = True) -> None:
        """Upload events, published in this order on one connection."""
        for name in names:
            if name not in self.journal.begun:
                self.journal.begin(name, kind="event", document=DOCUMENT)
        numbers = self.journal.publish(names)
        for name, number in zip(names, numbers, strict=True):
            self.sequence += 1
            if acked:
                self.journal.acknowledge(name, number, self.sequence)

    def answer(self, name: str, version: int) -> None:
        self.journal.end(name, accepted=True, version=version)

    def call(self, name: str, version: int) -> None:
        """An upload over gRPC, from call to reply."""
        self.journal.begin(name, kind="upload", document=DOCUMENT)
        self.record(name, version)
        self.answer(name, version)

    def delete(self, name: str, *, answered: bool = True) -> None:
        self.journal.begin(name, kind="delete", document=DOCUMENT)
        if answered:
            self.journal.end(name, deleted=True)

    def record(self, name: str, version: int, result: str = "INDEXED", state: str = "") -> None:
        """The rows that an accepted upload leaves."""
        self.evidence.uploads.append({"request_id": name, "version": version, "result": result})
        self.evidence.versions.append(
            {"document": DOCUMENT, "version": version, "state": state or "SUPERSEDED"}
        )

    def live(self, version: int) -> None:
        self.evidence.documents = [{"name": DOCUMENT, "live_version": version}]

    @property
    def found(self) -> list[str]:
        return list(order_violations(self.journal, self.evidence))

    @property
    def decided(self) -> int:
        return count_decided(self.journal, self.evidence)
