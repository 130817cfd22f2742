"""Ingest with the real model: documents a second, and wall time over pure embedding time."""

from collections.abc import Sequence
from typing import Any

from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.upload import Uploaded

NAME = "ingest"
TITLE = "ingest through the public interface, traces on, every write synced"


def figure(runs: Sequence[Uploaded], floors: Sequence[dict[str, Any]], chunks: int) -> Figure:
    """Each upload beside the floor measured right after it, with that stack stopped."""
    embedding = [floor["wall_s"] for floor in floors]
    ratios = [run.wall_s / pure for run, pure in zip(runs, embedding, strict=True)]
    walls = [run.wall_s for run in runs]
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name="documents a second",
                value=median([run.rate for run in runs]),
                unit="1/s",
                spread=spread([run.rate for run in runs]),
                note=f"{runs[0].documents} documents, {chunks} chunks",
            ),
            Row(
                name="wall time over pure embedding",
                value=median(walls),
                unit="s",
                spread=spread(ratios),
                floor=median(embedding),
                ratio=median(ratios),
                aim=Aim(sense="<=", limit=1.15, of="ratio"),
                note="spread is that of the ratio; floor: the same chunks through the bare engine"
                f" in {floors[0]['precision']}, {floors[0]['tokens']} tokens",
            ),
            _again(runs),
            *lost_rows(runs),
            *cpu_rows(runs),
            _cpu_ratio(runs, floors),
        ],
    )


def _again(runs: Sequence[Uploaded]) -> Row:
    ratios = [run.wall_s / run.again_s for run in runs]
    return Row(
        name="the same import again",
        value=median([run.again_s for run in runs]),
        unit="s",
        spread=spread(ratios),
        floor=median([run.wall_s for run in runs]),
        ratio=median(ratios),
        aim=Aim(sense=">=", limit=50, of="ratio"),
        note="floor column: the first import; ratio: first over again, and its spread",
    )


def _cpu_ratio(runs: Sequence[Uploaded], floors: Sequence[dict[str, Any]]) -> Row:
    """What others on the machine disturb least: processor time over that of the engine alone."""
    whole = [sum(run.cpu_s.values()) / run.documents * 1e6 for run in runs]
    bare = [f["cpu_s"] / run.documents * 1e6 for f, run in zip(floors, runs, strict=True)]
    ratios = [mine / engine for mine, engine in zip(whole, bare, strict=True)]
    return Row(
        name="CPU of everything over the bare engine's",
        value=median(whole),
        unit="us/document",
        spread=spread(ratios),
        floor=median(bare),
        ratio=median(ratios),
        note="spread is that of the ratio; the wall ratio of cores that never wait",
    )


def lost_rows(runs: Sequence[Uploaded]) -> list[Row]:
    """Documents that were refused or failed, with why; no row where there are none."""
    lost = runs[-1].lost
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items()))
    row = Row(name="documents refused or failed", value=sum(lost.values()), unit="", note=why)
    return [row] if lost else []


def cpu_rows(runs: Sequence[Uploaded]) -> list[Row]:
    """Processor time of each part for a document, dearest first, and their sum."""
    by_part = {
        part: [run.cpu_s[part] / run.documents * 1e6 for run in runs] for part in runs[0].cpu_s
    }
    by_part["all parts and the client"] = [
        sum(each) for each in zip(*by_part.values(), strict=True)
    ]
    rows = [
        Row(
            name=f"CPU of {part}",
            value=median(values),
            unit="us/document",
            spread=spread(values),
            note="children included" if part in {"ingest", "postgres"} else "",
        )
        for part, values in by_part.items()
    ]
    return sorted(rows, key=lambda row: -row.value)
