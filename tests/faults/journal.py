"""What the outside world did and saw, written down before and after, on disk before it is done."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Journal:
    """Operations of one campaign: `begun` before they are sent, `ended` with what was answered.

    A line is fsynced before the operation goes on, so an operation without an answer is known to
    be one: both outcomes are then lawful.
    """

    path: Path
    open_operations: dict[str, float] = field(default_factory=dict)
    begun: dict[str, dict[str, object]] = field(default_factory=dict)
    ended: dict[str, dict[str, object]] = field(default_factory=dict)
    kills: list[dict[str, object]] = field(default_factory=list)

    def begin(self, operation: str, **facts: object) -> None:
        """Notes an operation about to be sent."""
        self.begun[operation] = facts
        self.open_operations[operation] = time.monotonic()
        self._write({"begin": operation, **facts})

    def end(self, operation: str, **facts: object) -> None:
        """Notes what came back, also when that was an error."""
        self.ended[operation] = facts
        self.open_operations.pop(operation, None)
        self._write({"end": operation, **facts})

    def killed(self, part: str, *, lost_store: bool) -> None:
        """Notes a kill and how many operations were in flight at that moment."""
        kill = {"kill": part, "in_flight": len(self.open_operations), "lost_store": lost_store}
        self.kills.append(kill)
        self._write(kill)

    def accepted(self) -> dict[str, dict[str, object]]:
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

    def _write(self, line: dict[str, object]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"t": round(time.monotonic(), 4), **line}) + "\n")
            file.flush()
            os.fsync(file.fileno())
