"""The journal: what clients sent and received. An entry is on disk before its operation starts."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Copy:
    """One publication of an upload event.

    `begun` and `acked` are line numbers of the journal, `acked` is None without a PubAck. `stores`
    counts the stores the broker had lost before each of the two; `sequence` is the stream's.
    """

    begun: int
    acked: int | None = None
    sequence: int | None = None
    stores: tuple[int, int]

    @property
    def place(self) -> tuple[int, int] | None:
        """Which stream and where in it; None while that is not certain."""
        first, last = self.stores
        return None if self.sequence is None or first != last else (first, self.sequence)


@dataclass(slots=True)
class Journal:
    """Operations of one campaign: `begun` before they are sent, `ended` with what was answered.

    A beginning is fsynced before the operation goes on, so an operation without an answer is known
    to be one: both outcomes are then lawful. Every line has a number; `lines` holds that of the
    beginning and of the end of each operation, and is what "before" means to the checker.
    """

    path: Path
    open_operations: dict[str, float] = field(default_factory=dict)
    begun: dict[str, Facts] = field(default_factory=dict)
    ended: dict[str, Facts] = field(default_factory=dict)
    lines: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    copies: dict[str, list[Copy]] = field(default_factory=dict)
    faults: list[Facts] = field(default_factory=list)
    stores_lost: int = 0
    _line: int = 0

    def begin(self, operation: str, **facts: Any) -> None:
        """Notes an operation about to be sent."""
        self.begun[operation] = facts
        self.open_operations[operation] = time.monotonic()
        self.lines[operation] = (self._write({"begin": operation, **facts}), None)
        self._sync()

    def end(self, operation: str, **facts: Any) -> None:
        """Notes what came back, also when that was an error."""
        self.ended[operation] = facts
        self.open_operations.pop(operation, None)
        begun, _ = self.lines[operation]
        self.lines[operation] = (begun, self._write({"end": operation, **facts}))
        self._sync()

    def publish(self, operations: Sequence[str]) -> list[int]:
        """Notes that these upload events are about to be published in this order.

        Returns:
            The number of each one's copy, to name it in `acknowledge`.
        """
        numbers = []
        for operation in operations:
            copies = self.copies.setdefault(operation, [])
            numbers.append(len(copies))
            line = self._write({"publish": operation, "copy": len(copies)})
            copies.append(Copy(begun=line, stores=(self.stores_lost, self.stores_lost)))
        self._sync()
        return numbers

    def acknowledge(self, operation: str, number: int, sequence: int) -> None:
        """Notes the PubAck of a copy: the broker keeps it under this sequence of its stream."""
        copy = self.copies[operation][number]
        copy.sequence = sequence
        copy.stores = (copy.stores[0], self.stores_lost)
        line = {"ack": operation, "copy": number, "sequence": sequence, "store": self.stores_lost}
        copy.acked = self._write(line)

    def note_fault(
        self, kind: str, part: str, *, pending: Mapping[str, int] | None, **facts: Any
    ) -> Facts:
        """Notes a fault, and what was in flight at that moment.

        Args:
            kind: kill, stop or full.
            part: what it hits.
            pending: deliveries that await acknowledgement, by durable; None when the broker could
                not say.
            facts: what else belongs to it.
        """
        kinds = [self.begun[operation]["kind"] for operation in self.open_operations]
        fault: Facts = {
            "fault": kind,
            "part": part,
            "in_flight": len(kinds),
            "open_uploads": sum(kind in {"upload", "event", "rollback"} for kind in kinds),
            "pending": None if pending is None else {k: n for k, n in pending.items() if n},
            **facts,
        }
        self.faults.append(fault)
        self._write(fault)
        self._sync()
        return fault

    def lose_store(self, part: str) -> None:
        """Notes that the dead part's store is gone; the broker counts its sequences anew."""
        self.stores_lost += part == "nats"
        self._write({"lost_store": part})
        self._sync()

    def kills(self) -> list[Facts]:
        """Every `kill -9`."""
        return [fault for fault in self.faults if fault["fault"] == "kill"]

    def accepted(self) -> dict[str, Facts]:
        """Uploads that were acknowledged: by operation, what was sent with what was answered."""
        return {
            operation: {**self.begun[operation], **facts}
            for operation, facts in self.ended.items()
            if facts.get("accepted")
        }

    def deleted(self) -> set[str]:
        """Documents whose delete was acknowledged."""
        return {
            str(self.begun[operation]["document"])
            for operation, facts in self.ended.items()
            if facts.get("deleted")
        }

    def touched_by_delete(self) -> set[str]:
        """Documents somebody asked to delete, answered or not."""
        return {str(f["document"]) for f in self.begun.values() if f["kind"] == "delete"}

    def sent(self) -> set[str]:
        """Documents anybody ever sent."""
        return {str(f["document"]) for f in self.begun.values() if f["kind"] != "delete"}

    def _write(self, line: Facts) -> int:
        with self.path.open("a") as file:
            file.write(json.dumps({"t": round(time.monotonic(), 4), **line}) + "\n")
        self._line += 1
        return self._line

    def _sync(self) -> None:
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
