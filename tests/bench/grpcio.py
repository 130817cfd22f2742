"""The pinned grpcio against the newest: an echo of grpc.aio, alternating, on this machine."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.bench.figures import Figure, Row, median, spread
from tests.bench.running_stack import make_folder

NAME = "grpcio"
TITLE = "grpcio: the pinned version against the newest (grpc.aio echo, client and server)"
SIDE_BY_SIDE = (1, 64)
INSTALL_S = 120
CALL_S = 60
_ECHO = Path(__file__).with_name("grpcio_echo.py")
_ROOT = Path(__file__).parents[2]


class NotInstalledError(Exception):
    """A version could not be had."""


def measure(rounds: int, seconds: float) -> Figure:
    """Rates and latencies of both versions; skipped where they can not be installed."""
    with make_folder() as folder:
        try:
            pinned = _installed(folder / "pinned", f"grpcio=={version('grpcio')}")
            newest = _installed(folder / "newest", "grpcio>=1.80")
        except NotInstalledError as error:
            return Figure(name=NAME, title=TITLE, skipped=str(error))
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for number in range(rounds):
            pair = (pinned, newest) if number % 2 else (newest, pinned)
            for python in pair:
                with _server(python) as port:
                    for count in SIDE_BY_SIDE:
                        measured = _call(python, port, count, seconds)
                        found.setdefault((python.parts[-3], count), []).append(measured)
        names = {"pinned": _version(pinned), "newest": _version(newest)}
    return Figure(name=NAME, title=TITLE, rows=list(_rows(found, names)))


def _rows(
    found: dict[tuple[str, int], list[dict[str, float]]], names: dict[str, str]
) -> Iterator[Row]:
    for count in SIDE_BY_SIDE:
        for measure_name, unit, label in (("p50_us", "us", "latency"), ("rate", "1/s", "calls")):
            runs = {who: [run[measure_name] for run in found[who, count]] for who in names}
            ratios = [n / p for n, p in zip(runs["newest"], runs["pinned"], strict=True)]
            yield Row(
                name=f"{label}, {count} at a time: {names['newest']} over {names['pinned']}",
                value=median(runs["newest"]),
                unit=unit,
                spread=spread(runs["newest"]),
                floor=median(runs["pinned"]),
                ratio=median(ratios),
                note=f"floor column: {names['pinned']}; median of {len(ratios)} pairs",
            )


def _installed(folder: Path, requirement: str) -> Path:
    """Interpreter of a new environment that holds `requirement` and protobuf alone."""
    uv = shutil.which("uv") or shutil.which(str(_ROOT / ".tools/bin/uv"))
    if uv is None:
        raise NotInstalledError("skipped: uv is not installed")
    python = folder / "bin" / "python"
    _run(folder, uv, "venv", "--quiet", "--python", sys.executable, str(folder))
    _run(folder, uv, "pip", "install", "--quiet", "--python", str(python), requirement, "protobuf")
    return python


def _run(folder: Path, *command: str) -> None:
    """Away from this project, whose own constraints would pin the version."""
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            cwd=folder.parent,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or "no answer in time").strip().splitlines()
        raise NotInstalledError(f"skipped: the registry has not given it: {said[-1]}") from error


def _version(python: Path) -> str:
    code = "import grpc; print(grpc.__version__)"
    ran = subprocess.run(
        [python, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=CALL_S
    )
    return ran.stdout.strip()


@contextmanager
def _server(python: Path) -> Iterator[int]:
    with subprocess.Popen(
        [python, "-P", _ECHO, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()


def _call(python: Path, port: int, count: int, seconds: float) -> dict[str, float]:
    command = [str(python), "-P", str(_ECHO), "call", str(port), str(count), str(seconds)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=CALL_S)
    answer: dict[str, float] = json.loads(ran.stdout)
    return answer
