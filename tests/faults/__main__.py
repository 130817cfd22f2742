"""`python -m tests.faults --runs 100 --seed 7`: the campaign with its figures, for docs."""

import argparse
import asyncio
import statistics
import sys

from tests.faults.campaign import Campaign, running_stack


def main() -> int:
    """Runs the campaign; 0 when no run found a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    reports = []
    with running_stack() as stack:
        campaign = Campaign(stack, arguments.seed)
        for number in range(arguments.runs):
            report = asyncio.run(campaign.run(number))
            reports.append(report)
            sys.stdout.write(report.line() + "\n")
            for violation in report.violations[:10]:
                sys.stdout.write(f"    {violation}\n")
            sys.stdout.flush()
            if report.violations:
                break
    counted = [report for report in reports if report.counted]
    settle = sorted(report.settle_s for report in counted) or [0.0]
    sys.stdout.write(
        f"{len(counted)} runs counted of {len(reports)}, seed {arguments.seed}: "
        f"{reports[-1].accepted} uploads accepted, {sum(len(r.kills) for r in counted)} kills, "
        f"{sum(bool(r.lost_store) for r in counted)} stores deleted, "
        f"{sum(len(r.violations) for r in reports)} violations; "
        f"settled in {statistics.median(settle):.1f} s median, {settle[-1]:.1f} s at most\n"
    )
    return 1 if any(report.violations for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
