"""`aquifer ask` through all four services, by a model of vLLM in inference and of its server."""

from pathlib import Path

import pytest

from tests.e2e.test_engine import ask, run, running_stack, wait_for_span
from tests.vllm.tiny_model import CONTEXT_TOKENS

pytestmark = pytest.mark.timeout(900)

TEXT = "The well was drilled to a depth of 62 metres. Its casing is steel, 200 millimetres wide."


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_a_question_is_answered_and_the_trace_shows_the_engine(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if engine == "vllm":
        folder = request.getfixturevalue("model_folder")
        arguments = f'{{"max_model_len": {CONTEXT_TOKENS}, "enforce_eager": true}}'
        monkeypatch.setenv("AQUIFER_ENGINE_ARGUMENTS", arguments)
        options = ["--engine", "vllm", "--model", str(folder)]
    else:
        options = ["--engine", "openai", "--engine-url", request.getfixturevalue("server_url")]
    (tmp_path / "well.txt").write_text(TEXT)
    data = tmp_path / "data"
    with running_stack(data, *options):
        listed = {one["name"]: one for one in run(data, "models")}
        assert listed["tiny"]["context_tokens"] == CONTEXT_TOKENS
        # What a server runs on is not known.
        assert bool(listed["tiny"]["device"]) is (engine == "vllm")
        run(data, "upload", str(tmp_path / "well.txt"), "--wait")
        text, _, finish, trace_id = ask(data)
        # Random weights write nonsense, with the numbers of real work.
        assert text
        assert (finish["model"], finish["generative"], finish["degraded"]) == ("tiny", True, False)
        assert finish["usage"]["input_tokens"] > 50
        assert finish["usage"]["output_tokens"] > 0
        ours = wait_for_span(data, trace_id, "chat tiny")
        if engine == "vllm":
            theirs = wait_for_span(data, trace_id, "llm_request")
            assert theirs["parent_id"] == ours["span_id"]
