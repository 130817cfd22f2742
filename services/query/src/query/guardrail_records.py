"""Where verdicts are seen besides the answer: a metric, and events of the current span."""

from typing import Final

from opentelemetry import trace
from prometheus_client import Counter

from chassis.base.metrics import REGISTRY
from query.guardrail import Verdict

VERDICTS: Final = Counter(
    "aquifer_guardrail_verdicts",
    "Verdicts of guardrails on questions, passages and answers.",
    ("check", "stage", "outcome"),
    registry=REGISTRY,
)


def observe(verdict: Verdict) -> None:
    """Counts a verdict and writes it to the current span; a verdict has no text."""
    stage, outcome = verdict.stage.value, verdict.outcome.value
    VERDICTS.labels(verdict.check, stage, outcome).inc()
    trace.get_current_span().add_event(
        "aquifer.guardrail.verdict",
        {
            "aquifer.guardrail.check": verdict.check,
            "aquifer.guardrail.stage": stage,
            "aquifer.guardrail.outcome": outcome,
            "aquifer.guardrail.count": verdict.count,
        },
    )
