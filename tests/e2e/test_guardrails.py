"""A prompt and guardrails of a whole stack, with a model of a server that writes."""

import json
import tempfile
from pathlib import Path

import pytest

from tests.e2e.test_engine import run, running_stack, server_in_a_thread

pytestmark = pytest.mark.timeout(300)

TEXT = "The well was drilled to a depth of 62 metres. Its casing is steel, 200 millimetres wide."
QUESTION = "How deep is the well?"
GUARDRAILS = [
    {"name": "judge", "kind": "model", "on": "input", "action": "record", "question": "Is it?"},
    {"name": "mail", "kind": "personal_data", "on": "output", "action": "redact"},
    {"name": "steel", "kind": "pattern", "on": "output", "action": "block", "patterns": ["steel"]},
]


def outcomes(finished) -> dict[str, str]:
    return {one["check"]: one["outcome"] for one in finished["verdicts"]}


def text_of(steps) -> str:
    return "".join(one["text"] for one in steps if one["step"] == "delta")


def test_a_prompt_is_read_and_guardrails_hold_for_a_model_that_writes(monkeypatch):
    monkeypatch.setenv("AQUIFER_GUARDRAILS", json.dumps(GUARDRAILS))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made,
        server_in_a_thread() as it,
    ):
        folder = Path(made) / "data"
        (Path(made) / "well.md").write_text(TEXT)
        (Path(made) / "kind.txt").write_text("You are kind. {{Today}} is {today}.\n")
        with running_stack(folder, "--engine", "openai", "--engine-url", it.url):
            run(folder, "upload", str(Path(made) / "well.md"), "-c", "wells", "--wait")
            run(folder, "prompts", "create", "kind", str(Path(made) / "kind.txt"))

            it.words = ("The well", " is 62 metres deep [1].")
            *steps, finished = run(folder, "ask", QUESTION, "--prompt", "kind")
            assert finished["prompt"] == "prompts/kind@1"
            system, user = it.asked[-1]["messages"]
            assert system["content"].startswith("You are kind. {Today} is 20")
            assert "number of the passage" in system["content"]
            assert user["content"].startswith("<passages>")
            # What is no yes or no is a failed check, which lets pass if it only records.
            assert outcomes(finished) == {"judge": "FAILED", "mail": "PASSED", "steel": "PASSED"}
            assert text_of(steps) == "The well is 62 metres deep [1]."
            assert "62 metres" in next(one["quote"] for one in steps if "quote" in one)

            it.words = ("No",)
            assert outcomes(run(folder, "ask", QUESTION)[-1])["judge"] == "PASSED"

            it.words = ("Ask well", "@example", ".org [1].")
            *steps, finished = run(folder, "ask", QUESTION)
            assert text_of(steps) == "Ask [EMAIL] [1]."
            assert outcomes(finished)["mail"] == "REDACTED"

            it.words = ("Its casing is st", "eel [1].")
            *steps, finished = run(folder, "ask", QUESTION)
            assert (text_of(steps), finished["reason"]) == ("", "FILTERED")
            assert outcomes(finished)["steel"] == "BLOCKED"
            assert not any("quote" in one for one in steps)
