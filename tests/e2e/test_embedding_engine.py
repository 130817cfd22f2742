"""A stack that begins with the embedding model of a server, and changes to another and back."""

import json
import tempfile
from pathlib import Path

import pytest

from services.inference.tests.openai_server import DIMENSIONS
from tests.e2e.test_engine import QUESTION, TEXT, run, running_stack, server_in_a_thread

pytestmark = pytest.mark.timeout(300)


def test_uploads_and_searches_use_the_server_until_another_profile_is_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "well.txt").write_text(TEXT)
    with (
        tempfile.TemporaryDirectory(prefix="aquifer-embed-", ignore_cleanup_errors=True) as data,
        server_in_a_thread() as server,
    ):
        engine = {"engine": "openai", "url": server.url, "model": "tiny"}
        prefixes = {"question_prefix": "query: ", "passage_prefix": "passage: "}
        for name, value in {
            "EMBEDDING_ENGINES": json.dumps([engine | prefixes]),
            "EMBEDDER": "tiny",
            "MORE_EMBEDDERS": "minilm",
            "EMBEDDING_PROFILE": "tiny",
            "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        }.items():
            monkeypatch.setenv(f"AQUIFER_{name}", value)
        folder = Path(data) / "data"
        with running_stack(folder):
            run(folder, "upload", str(tmp_path / "well.txt"), "--wait")
            sent = [text for body in server.asked for text in body["input"]]
            assert f"passage: {TEXT}" in sent
            assert run(folder, "search", QUESTION)
            assert server.asked[-1]["input"] == [f"query: {QUESTION}"]
            run(folder, "profiles", "build", "minilm-l6-v2")
            run(folder, "profiles", "flip", "minilm-l6-v2")
            before = len(server.asked)
            assert run(folder, "search", QUESTION)
            assert len(server.asked) == before
            run(folder, "profiles", "flip", "tiny")
            # Another question: the vector of the first is remembered.
            assert run(folder, "search", "Is the well deep?")
            assert len(server.asked) == before + 1
