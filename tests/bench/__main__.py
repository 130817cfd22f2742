"""Measures Aquifer and, for comparison, the minimum that any program needs for the same work."""

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import (
    ask,
    backlog,
    ceiling,
    codes,
    embedding,
    estimates,
    flow,
    growth,
    grpcio,
    hop,
    ingest,
    large,
    listing,
    machine,
    memory,
    quality,
    refill,
    search,
    shared_stack,
    startup,
    streams,
    vectors,
)
from tests.bench.corpus import Corpus, load
from tests.bench.figures import Figure
from tests.bench.plan import Plan
from tests.bench.screen import markdown, show

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
CRANFIELD = ROOT.parent / "shared/data/cranfield"
EXPERIMENTS = (
    ingest,
    ceiling,
    flow,
    backlog,
    large,
    estimates,
    growth,
    refill,
    vectors,
    codes,
    search,
    ask,
    listing,
    memory,
    quality,
    embedding,
    streams,
    startup,
    grpcio,
    hop,
)
NAMES = tuple(each.NAME for each in EXPERIMENTS)
FAILED = 1


def main() -> int:
    """Runs the experiments; 1 when one of them could not be carried out."""
    options = _parse_options()
    # A kill from outside should clean up like Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    before = machine.look()
    corpus = load(options.corpus, options.documents or (300 if options.quick else None))
    plan = Plan.quick() if options.quick else Plan.full()
    wanted = set(options.only or NAMES)
    if not options.json:
        sys.stderr.write(f"measuring with {corpus.about} ...\n")
    started = time.monotonic()
    figures = list(_measure(corpus, plan, wanted))
    took_s = time.monotonic() - started
    if options.json:
        report = {
            "machine": before.as_json(),
            "corpus": corpus.about,
            "quick": options.quick,
            "took_s": round(took_s, 1),
            "figures": [figure.as_json() for figure in figures],
        }
        sys.stdout.write(json.dumps(report) + "\n")
    elif options.markdown:
        lines = markdown(before, corpus.about, figures, took_s)
        sys.stdout.write("\n".join(lines) + "\n")
    else:
        show(before, corpus.about, figures, took_s)
    return FAILED if any(figure.failed for figure in figures) else 0


def _measure(corpus: Corpus, plan: Plan, wanted: set[str]) -> Iterator[Figure]:
    """One experiment after the other, so that none disturbs another."""
    if wanted & set(shared_stack.NAMES):
        yield from _try("shared_stack", lambda: shared_stack.measure(corpus, plan, wanted))
    alone: dict[str, Callable[[], Figure]] = {
        ceiling.NAME: lambda: ceiling.measure(corpus, plan.repetitions),
        flow.NAME: lambda: flow.measure(corpus),
        backlog.NAME: lambda: backlog.measure(corpus, plan.backlogs),
        large.NAME: lambda: large.measure(plan.large_text_bytes, plan.large_pages),
        estimates.NAME: lambda: estimates.measure(corpus),
        growth.NAME: lambda: growth.measure(plan.growth),
        refill.NAME: lambda: refill.measure(plan.refill_documents, plan.repetitions),
        vectors.NAME: lambda: vectors.measure(corpus, plan.points),
        codes.NAME: codes.measure,
        listing.NAME: lambda: listing.measure(plan.listing, plan.listing_s, plan.repetitions),
        embedding.NAME: lambda: embedding.measure(corpus, plan.repetitions),
        streams.NAME: lambda: streams.measure(plan.repetitions),
        startup.NAME: startup.measure,
        grpcio.NAME: lambda: grpcio.measure(plan.grpcio_rounds, plan.grpcio_s),
        hop.NAME: lambda: hop.measure(plan.hop_events, plan.repetitions),
    }
    for name, measure in alone.items():
        if name in wanted:
            yield from _try(name, lambda measure=measure: [measure()])  # type: ignore[misc]


def _try(name: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    """The figures of an experiment, or one figure that says why it failed."""
    try:
        return measure()
    except Exception as error:
        log.exception("experiment.failed", extra={"experiment": name})
        return [Figure(name=name, title=name, skipped=f"failed: {error!r}", failed=True)]


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("--documents", type=int, metavar="N", help="only the first N documents")
    parser.add_argument("--quick", action="store_true", help="fewer documents and repetitions")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--markdown", action="store_true", help="tables for docs/measurements.md")
    parser.add_argument("--only", action="append", choices=NAMES, help="one figure; repeatable")
    parser.add_argument(
        "--corpus", type=Path, default=CRANFIELD, metavar="DIR", help="a collection in BEIR layout"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
