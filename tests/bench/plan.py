"""The number of repetitions of each experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Repetitions whose median a figure is, and sizes."""

    repetitions: int
    questions: int
    grpcio_rounds: int
    grpcio_s: float
    hop_events: int
    growth: Sequence[int]
    refill_documents: int
    points: int
    backlogs: Sequence[int]
    large_text_bytes: int
    large_pages: int
    listing: Sequence[int]
    listing_s: float

    @classmethod
    def full(cls) -> Self:
        """For figures to keep."""
        return cls(
            repetitions=3,
            questions=60,
            grpcio_rounds=5,
            grpcio_s=2.0,
            hop_events=1000,
            growth=(1_000, 10_000, 50_000),
            refill_documents=5_000,
            points=100_000,
            backlogs=(1_000, 10_000),
            large_text_bytes=15 << 20,
            large_pages=5_000,
            listing=(50, 50_000),
            listing_s=5.0,
        )

    @classmethod
    def quick(cls) -> Self:
        """For a first look."""
        return cls(
            repetitions=1,
            questions=20,
            grpcio_rounds=2,
            grpcio_s=1.0,
            hop_events=300,
            growth=(1_000, 4_000),
            refill_documents=1_000,
            points=10_000,
            backlogs=(300, 1_000),
            large_text_bytes=4 << 20,
            large_pages=500,
            listing=(50, 2_000),
            listing_s=2.0,
        )
