"""The names of our modules: what each defines, assigns and imports, and its functions bind."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.contract.reasons import Module

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scoped = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CONTEXTS = {"contextmanager", "asynccontextmanager"}


@dataclass(frozen=True, eq=False)
class Class:
    """A class of ours; `stub` is the gRPC service whose generated stub it is instead."""

    name: str
    module: "Names | None" = None
    node: ast.ClassDef | None = None
    stub: str = ""


@dataclass(frozen=True)
class Place:
    """A function, lambda or method, where it is defined."""

    module: "Names" = field(compare=False)
    node: Any
    owner: Class | None = field(compare=False, default=None)

    @property
    def is_context(self) -> bool:
        return bool(CONTEXTS & set(map(last_name, getattr(self.node, "decorator_list", ()))))


@dataclass(frozen=True)
class Call:
    """A call of a sibling's method through its stub."""

    service: str
    method: str


def last_name(node: ast.AST) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")


class Names:
    """The names of one module."""

    def __init__(self, name: str, module: Module) -> None:
        self.name, self.module = name, module
        self.defined: dict[str, Any] = {}
        self.assigned: dict[str, ast.expr] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        for node in module.nodes[0].body:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.defined[node.name] = Place(self, node)
                case ast.ClassDef():
                    self.defined[node.name] = Class(node.name, self, node)
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    self.assigned[target] = value
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                    self.assigned[target] = value
                case ast.Import(names=names):
                    for one in names:
                        self.imported[one.asname or one.name] = (one.name, "")
                case ast.ImportFrom(module=str(source), names=names):
                    for one in names:
                        self.imported[one.asname or one.name] = (source, one.name)


def dotted(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each file with the name it is imported by."""
    for path in paths:
        parts = path.with_suffix("").parts
        inside = parts[len(parts) - parts[::-1].index("src") :]
        yield path, ".".join(inside).removesuffix(".__init__")


def assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if len(
            targets
        ) == len(values):
            yield from zip(targets, values, strict=True)
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            yield target, value or annotation
        case ast.NamedExpr(target=target, value=value):
            yield target, value


@cache
def nested(function: ast.AST) -> dict[str, ast.AST]:
    """The named functions inside a function."""
    inside = (node for node in ast.walk(function) if node is not function)
    return {node.name: node for node in inside if isinstance(node, Function)}


@cache
def bindings(function: ast.AST) -> dict[str, list[ast.expr]]:
    """Expressions that the names bound in a function take their values from."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        pairs: list[tuple[ast.AST, ast.expr]] = [*assigned(node)]
        match node:
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                pairs.append((node.target, node.iter))
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                pairs.append((target, value))
            case ast.Match(subject=subject, cases=cases):
                pairs += [(case.pattern, subject) for case in cases]
        for target, value in pairs:
            for one in ast.walk(target):
                if name := getattr(one, "id", "") or (
                    (isinstance(one, ast.MatchAs) and one.name) or ""
                ):
                    found.setdefault(name, []).append(value)
    return found
