"""Runs the fault campaign and prints its figures: `python -m tests.faults --runs 100 --seed 7`."""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from chassis.events.topology import ACK_WAIT_S
from tests.faults.campaign import running_campaign
from tests.faults.report import Report
from tests.faults.summary import summarize

SHOWN = 10


def main() -> int:
    """Runs the campaign; 0 when no run found a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a run, then the figures"
    )
    parser.add_argument("--keep-going", action="store_true", help="continue after a violation")
    arguments = parser.parse_args()
    reports: list[Report] = []
    with running_campaign(arguments.seed) as campaign:
        for number in range(arguments.first, arguments.first + arguments.runs):
            report = asyncio.run(campaign.run(number))
            reports.append(report)
            _show(report, as_json=arguments.json)
            if report.violations and not arguments.keep_going:
                break
    summary = summarize(arguments.seed, reports, ACK_WAIT_S)
    sys.stdout.write(
        json.dumps({"summary": asdict(summary)}) + "\n" if arguments.json else summary.table()
    )
    return 1 if summary.violations else 0


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
    else:
        sys.stdout.write(report.line() + "\n")
        for violation in report.violations[:SHOWN]:
            sys.stdout.write(f"    {violation}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
