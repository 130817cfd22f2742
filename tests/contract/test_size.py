"""Files have at most 400 lines, functions at most 60."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_MAX, FUNCTION_MAX = 400, 60
SOURCES = sorted(
    path
    for folder in ("packages", "services", "deploy")
    for path in (ROOT / folder).glob("**/src/**/*.py")
    if "packages/contracts" not in path.as_posix()
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_MAX
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= FUNCTION_MAX
    }
    assert long == {}


def test_there_are_sources():
    assert len(SOURCES) > 30
