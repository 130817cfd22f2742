"""Every reason the services can give, read from their source: none is found by running luck.

A reason is the first argument of an error class. Where a function passes a parameter of its own
on as one, its callers are read instead; names, enums and returned values are followed. What can
not be followed is reported, so that nothing is missed in silence.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from aquifer.query.v1.passage_events_pb2 import ChunksRejected

ROOT = Path(__file__).parents[2]
BASE = "ServiceError"
# A document's end, not a call's: what is given as their `reason` has no gRPC code.
VERDICTS = ("Verdict", *(e.__name__ for e in (DocumentFailed, ChunksRejected, EmbeddingRejected)))
# What is handed on as it came was a reason where it came from.
CARRIED = ("reason", "result")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Taker:
    """A callable that makes a reason of an argument; `kind` is the error class, or "" for none."""

    kind: str
    position: int | None
    keyword: str


@dataclass(slots=True)
class Found:
    """`kinds` of each reason, and the places whose reason could not be read."""

    kinds: dict[str, set[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def roots(root: Path = ROOT) -> list[Path]:
    """Source folders whose reasons callers and operators meet."""
    return [root / "packages/chassis/src", *sorted((root / "services").glob("*/src"))]


def collect(folders: list[Path]) -> Found:
    """Every reason in the sources below `folders`."""
    modules = {
        path: _Module(ast.parse(path.read_text()))
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    }
    return _Reader(modules).read()


def error_classes(folders: list[Path]) -> dict[str, str]:
    """Base class of each error class below `folders`, by name."""
    classes = [
        node
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.bases
    ]
    found: dict[str, str] = {BASE: ""}
    while True:
        new = {
            node.name: base
            for node in classes
            for base in map(_last_name, node.bases)
            if base in found and node.name not in found
        }
        if not new:
            return found
        found |= new


class _Module:
    """One file: its functions, each with the class around it, and its names."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.parents = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self.functions = {
            node.name: node for node in ast.walk(tree) if isinstance(node, Function)
        }
        self.enums = {
            node.name: [
                line.value.value
                for line in node.body
                if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
            ]
            for node in tree.body
            if isinstance(node, ast.ClassDef) and "StrEnum" in map(_last_name, node.bases)
        }
        self.constants = {
            target.id: line.value
            for line in tree.body
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value
            for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
            if isinstance(target, ast.Name)
        }

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that contain a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def function_of(self, node: ast.AST) -> Function | None:
        return next((one for one in self.around(node) if isinstance(one, Function)), None)

    def class_of(self, node: ast.AST) -> str:
        return next((one.name for one in self.around(node) if isinstance(one, ast.ClassDef)), "")


class _Reader:
    def __init__(self, modules: Mapping[Path, _Module]) -> None:
        self.modules = modules
        self.found = Found()
        self.enums = {k: v for one in modules.values() for k, v in one.enums.items()}
        self.constants = {k: v for one in modules.values() for k, v in one.constants.items()}
        self.siblings = sorted(_literals(modules.values(), "open_channel", "service"))
        self.bases = _bases(modules.values())
        # By name and module; None stands for every module.
        self.takers: dict[tuple[str, Path | None], Taker] = {
            ("plain_status", None): Taker("INTERNAL", None, "reason"),
            (BASE, None): Taker(BASE, 0, "reason"),
            **{(name, None): Taker("", None, "reason") for name in VERDICTS},
        }

    def read(self) -> Found:
        """Reads every call again until no new taker turns up."""
        while True:
            self.found, known = Found(), dict(self.takers)
            for path, module in self.modules.items():
                for node in ast.walk(module.tree):
                    if isinstance(node, ast.Call) and (taker := self._taker(node, path)):
                        self._read_call(node, taker, path)
            if known == self.takers:
                return self.found
