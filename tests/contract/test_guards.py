"""Every automated check reports its violation, which is added to a copy of the sources."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import test_size as size
from tests.contract.reasons import ROOT, collect, sources
from tests.contract.test_error_table import undocumented

TOOLS = Path(sys.executable).parent
SOURCES = ("packages", "services", "deploy/local")
COMPILED = shutil.ignore_patterns("__pycache__")
UPLOADED = "protos/aquifer/ingest/v1/upload_events.proto"
# File: (import planted there, start of the name of the contract in pyproject.toml that it breaks).
IMPORTS = {
    "services/auth/src/auth/tokens.py": ("import query.domain", "services never import each other"),
    "packages/cli/src/aquifer_cli/names.py": ("import chassis.base.errors", "the aquifer command"),
    "packages/chassis/src/chassis/base/errors.py": (
        "import chassis.process.ops",
        "layers of the chassis",
    ),
    "services/auth/src/auth/usecases/ports.py": ("import auth.store", "inside auth"),
    "services/inference/src/inference/domain.py": ("import inference.engine", "inside inference"),
    "services/ingest/src/ingest/usecases/ports.py": ("import ingest.rpc", "inside ingest"),
    "services/query/src/query/domain.py": (
        "import query.retrieval.fusion",
        "inside query: adapters",
    ),
    "services/query/src/query/vectors/lanes.py": (
        "import query.usecases.points",
        "inside query: the vector process",
    ),
    "services/auth/src/auth/domain.py": ("import grpc", "use cases and domain"),
    "services/auth/src/auth/keys.py": ("import openvino", "only inference.engines imports"),
    "services/inference/src/inference/ports.py": ("import vllm", "only inference.engines.vllm"),
    "services/ingest/src/ingest/traces.py": ("import qdrant_client", "only query.vectors"),
    "services/query/src/query/labels.py": ("import re2", "only query.checks"),
    "packages/cli/src/aquifer_cli/text.py": ("import scipy", "only aquifer_cli.evaluation"),
}
PLANTED = {
    "as a literal": 'def f():\n    raise NotFoundError("PLANTED_ONE", "x")\n',
    "behind a constant": 'WHY = "PLANTED_ONE"\nraise NotFoundError(WHY, "x")\n',
    "behind a helper": (
        "def _no(reason):\n    return NotFoundError(reason, 'x')\n\nraise _no('PLANTED_ONE')\n"
    ),
    "by an error class": (
        "class OwnError(NotFoundError):\n"
        "    def __init__(self):\n        super().__init__('PLANTED_ONE', 'x')\n"
    ),
    "in a closed list": (
        "class Why(StrEnum):\n    ONE = 'PLANTED_ONE'\n\nraise NotFoundError(Why.ONE, 'x')\n"
    ),
    "as a verdict": 'Verdict(reason="PLANTED_ONE", detail="x")\n',
}
HEAD = (
    "from enum import StrEnum\n"
    "from chassis.base.errors import NotFoundError\n"
    "from ingest.domain import Verdict\n\n"
)


def run(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{TOOLS}{os.pathsep}{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new, 1))


@pytest.fixture
def contract(tmp_path) -> Path:
    """A copy of the protos and of buf's settings."""
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    return tmp_path


@pytest.fixture(scope="module")
def broken_copy(tmp_path_factory) -> tuple[str, int]:
    """The output and exit code of import-linter for a copy with each import of IMPORTS planted."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    roots = []
    for source in sorted(path for part in SOURCES for path in (ROOT / part).glob("**/src")):
        roots.append(folder / source.relative_to(ROOT))
        shutil.copytree(source, roots[-1], ignore=COMPILED)
    for file, (line, _) in IMPORTS.items():
        (folder / file).write_text(f"{line}\n{(folder / file).read_text()}")
    done = run(
        "lint-imports", "--no-cache", folder=folder, PYTHONPATH=os.pathsep.join(map(str, roots))
    )
    return done.stdout, done.returncode


@pytest.mark.parametrize("file", IMPORTS)
def test_import_linter_reports_a_forbidden_import(broken_copy, file):
    output, code = broken_copy
    line, contract = IMPORTS[file]
    assert code != 0
    assert re.search(rf"^{contract}.*BROKEN$", output, re.MULTILINE), output
    importer = ".".join(Path(file.partition("/src/")[2]).with_suffix("").parts)
    assert f"{importer} -> {line.removeprefix('import ')}" in output


def test_every_import_contract_is_broken_by_one_planted_import(broken_copy):
    assert f"{len(IMPORTS)} broken" in broken_copy[0]
    assert "0 kept" in broken_copy[0]


def test_buf_reports_a_broken_contract(contract):
    promised = ("buf", "breaking", "--against", str(ROOT))
    assert run(*promised, folder=contract).returncode == 0
    replace(contract / UPLOADED, "int64 size_bytes = 3;", "string size_bytes = 3;")
    done = run(*promised, folder=contract)
    assert done.returncode != 0
    assert "size_bytes" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("  // Size of the content in bytes; required and checked.\n", "", "size_bytes"),
        ("string uri = 1;", "string Uri = 1;", "Uri"),
    ],
)
def test_buf_lint_reports_a_missing_comment_and_a_wrong_name(contract, old, new, rule):
    assert run("buf", "lint", folder=contract).returncode == 0
    replace(contract / UPLOADED, old, new)
    done = run("buf", "lint", folder=contract)
    assert done.returncode != 0
    assert rule in done.stdout


def test_gen_diff_reports_generated_code_that_differs_from_the_protos(contract):
    shutil.copy(ROOT / "justfile", contract)
    source = "packages/contracts/src"
    shutil.copytree(ROOT / source, contract / source, ignore=COMPILED)
    git = ("git", "-c", "user.name=guard", "-c", "user.email=guard@localhost")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "as it is")):
        assert run(*git, *command, folder=contract).returncode == 0
    replace(contract / UPLOADED, "int64 size_bytes = 3;", "int64 size_in_bytes = 3;")
    assert run("just", "--no-deps", "gen", folder=contract).returncode == 0
    done = run("just", "--no-deps", "gen-diff", folder=contract)
    assert done.returncode != 0
    changed = set(re.findall(r"^\+\+\+ b/(.*)$", done.stdout, re.MULTILINE))
    stem = f"{source}/aquifer/ingest/v1/upload_events_pb2"
    assert changed == {f"{stem}.py", f"{stem}.pyi"}


@pytest.mark.parametrize(
    "text",
    ["x = 1\n" * (size.FILE_MAX + 1), "def f():\n" + "    x = 1\n" * size.FUNCTION_MAX],
    ids=["file", "function"],
)
def test_the_size_test_refuses_a_long_file_and_a_long_function(tmp_path, text):
    file = tmp_path / "long.py"
    file.write_text("\n".join(text.splitlines()[:-1]))
    size.test_a_file_and_its_functions_stay_small(file)
    file.write_text(text)
    with pytest.raises(AssertionError):
        size.test_a_file_and_its_functions_stay_small(file)


@pytest.fixture(scope="module")
def documented() -> set[str]:
    """The reasons the page must list when nothing is planted."""
    return set(collect(sources()).kinds)


@pytest.mark.parametrize("how", PLANTED)
def test_the_error_table_refuses_an_undocumented_reason(tmp_path, documented, how):
    file = tmp_path / "planted.py"
    file.write_text(HEAD + PLANTED[how])
    found = collect([*sources(), file])
    assert found.unread == []
    assert undocumented(found, documented) == {"PLANTED_ONE"}
    assert undocumented(found, {*documented, "PLANTED_ONE", "GONE"}) == {"GONE"}


def test_the_error_table_refuses_a_reason_that_is_not_a_constant(tmp_path):
    file = tmp_path / "planted.py"
    file.write_text(HEAD + 'raise NotFoundError("".join(["PLANTED", "ONE"]), "x")\n')
    assert len(collect([*sources(), file]).unread) == 1
