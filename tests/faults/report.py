"""What one run of the campaign did and found."""

from dataclasses import dataclass, field

from tests.faults.journal import Facts


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run did and found; `faults` as they stand in the journal.

    `accepted` uploads, `decided` documents, see `count_decided`, and everything of conversations
    are those of all runs so far.
    """

    run: int
    faults: list[Facts] = field(default_factory=list)
    lost_store: str = ""
    flipped_to: str = ""
    deleted_tenant: str = ""
    outsider_answers: int = 0
    accepted: int = 0
    decided: int = 0
    conversations: int = 0
    messages: int = 0
    repeats: int = 0
    settle_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def counted(self) -> bool:
        """Whether an operation was in flight at each fault."""
        return all(fault["in_flight"] for fault in self.faults)

    def line(self) -> str:
        """For people."""
        verdict = "ok" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        verdict = verdict if self.counted else f"{verdict} (not counted: nothing in flight)"
        kills = [fault["part"] for fault in self.faults if fault["fault"] == "kill"]
        done = [f"killed {', '.join(kills)}"]
        for fault in self.faults:
            if fault["fault"] == "stop":
                done.append(f"stopped {fault['part']} for {fault['seconds']:.1f} s")
            elif fault["fault"] == "full":
                done.append(f"{fault['what']} of nats full for {fault['seconds']:.1f} s")
        done += [f"store of {self.lost_store} deleted"] if self.lost_store else []
        done += [f"flipped to {self.flipped_to}"] if self.flipped_to else []
        done += [f"tenant {self.deleted_tenant} deleted"] if self.deleted_tenant else []
        return (
            f"run {self.run:>3}: {'; '.join(done)}; {self.accepted} accepted so far; "
            f"settled in {self.settle_s:.1f} s; {verdict}"
        )
