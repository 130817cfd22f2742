"""Every reason that the services can give, found in their source code.

A reason is the first argument of an error class, or the `reason` of a verdict. Where a function
passes a parameter of its own on as one, its callers are read instead; names, enums and returned
values are followed. What can not be followed is reported, so nothing is missed in silence.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from chassis.events import topology

ROOT = Path(__file__).parents[2]
BASE = "ServiceError"
# Ends a document and no call, so it has no gRPC code.
VERDICT = "verdict"
VERDICTS = ("Verdict", *(e.name for e in topology.events() if "reason" in e.fields_by_name))
# What is handed on as it came was a reason where it came from.
CARRIED = ("reason", "result")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Taker:
    """A callable that makes a reason of an argument; `kind` as in `Reasons`."""

    kind: str
    position: int
    keyword: str


@dataclass(slots=True)
class Reasons:
    """Where each reason comes from, and the places where one could not be read.

    A kind is the name of an error class, VERDICT, or the gRPC code of a bare status.
    """

    kinds: dict[str, set[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    # Kinds and reasons by the call that gives them.
    calls: dict[ast.Call, set[tuple[str, str]]] = field(default_factory=dict)


class UnreadError(Exception):
    """An expression whose value is not to be seen in the source."""


def sources(root: Path = ROOT) -> list[Path]:
    """Files whose reasons callers and operators meet."""
    folders = [root / "packages/chassis/src", *sorted((root / "services").glob("*/src"))]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def collect(paths: Iterable[Path]) -> Reasons:
    """Every reason in these files."""
    reader = Reader([module_of(path) for path in paths])
    while True:
        known = dict(reader.takers)
        reader.read()
        if reader.takers == known:
            return reader.reasons


class Module:
    """One file, and what stands around and behind each of its names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes = list(ast.walk(ast.parse(path.read_text())))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.functions = {node.name: node for node in self.nodes if isinstance(node, Function)}
        self.classes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        self.names = {*self.functions, *(node.name for node in self.classes)}
        for node in self.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.names |= {one.asname or one.name.partition(".")[0] for one in node.names}

    def around(self, node: ast.AST, kind: Any) -> Any:
        """The innermost node of a kind around a node, or None."""
        above = self.parents.get(node)
        while above is not None and not isinstance(above, kind):
            above = self.parents.get(above)
        return above


@cache
def module_of(path: Path) -> Module:
    """A file as it was when it was first asked for."""
    return Module(path)


class Reader:
    """Reads calls of takers; each reading may find new takers, so it is done until none is new."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self.classes = {node.name: node for module in modules for node in module.classes}
        self.bases = error_bases(self.classes.values())
        self.enums = {
            name: dict(_assigned(node.body))
            for name, node in self.classes.items()
            if "StrEnum" in map(_name, node.bases)
        }
        self.constants = {
            (module.path, name): value
            for module in modules
            for name, value in _assigned(module.nodes[0].body)
        }
        self.siblings = {name for module in modules for name in _siblings(module)}
        self.reasons = Reasons()
        # Private names and fields belong to their file, the others to whoever imports them.
        self.takers = {(name, None): Taker(VERDICT, -1, "reason") for name in VERDICTS}
        self.takers[BASE, None] = Taker(BASE, 0, "reason")
        self.takers["make_status", None] = Taker("", -1, "reason")
        for name in self.bases:
            if not any(getattr(line, "name", "") == "__init__" for line in self.classes[name].body):
                self.takers[name, None] = Taker(name, 0, "reason")

    def read(self) -> None:
        """Reads every call once."""
        self.reasons = Reasons()
        for module in self.modules:
            for node in module.nodes:
                if isinstance(node, ast.Call) and (taker := self._taker(module, node)):
                    self._read(module, node, taker)

    def _taker(self, module: Module, call: ast.Call) -> Taker | None:
        called = call.args[0] if _name(call.func) == "partial" else call.func
        name = _name(called)
        if name == "run" and isinstance(called, ast.Attribute):
            # Every use case has one: it is found by the field that holds the use case.
            return self.takers.get((_name(called.value), module.path))
        if name == "__init__":
            inside = module.around(call, ast.ClassDef)
            ours = inside is not None and inside.name in self.bases
            return Taker(inside.name, 0, "reason") if ours else None
        known = self.takers.get((name, module.path))
        if known is None and _first_name(called) in module.names:
            known = self.takers.get((name, None))
        return known

    def _read(self, module: Module, call: ast.Call, taker: Taker) -> None:
        given = call.args[1:] if _name(call.func) == "partial" else call.args
        values = [word.value for word in call.keywords if word.arg == taker.keyword]
        if not values and 0 <= taker.position < len(given):
            values = [given[taker.position]]
        kind = taker.kind or _name(call.args[0])
        for value in values:
            try:
                for reason in self._values(module, value, kind):
                    self.reasons.kinds.setdefault(reason, set()).add(kind)
                    self.reasons.calls.setdefault(call, set()).add((kind, reason))
            except UnreadError as error:
                self.reasons.unread.append(f"{module.path}:{value.lineno}: {error}")

    def _values(self, module: Module, value: ast.expr, kind: str) -> Iterator[str]:
        """The reasons an expression can stand for; none for one that is carried on."""
        match value:
            case ast.Constant(value=str(text)):
                yield from [text] if text else []
            case ast.IfExp(body=one, orelse=other):
                yield from self._all(module, [one, other], kind)
            case ast.BoolOp(values=some):
                yield from self._all(module, some, kind)
            case ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=name)) if (
                name in CARRIED
            ):
                return
            case ast.Attribute(value=ast.Name(id=enum), attr=member) if enum in self.enums:
                yield self.enums[enum][member].value
            case ast.Call(func=ast.Name(id=enum)) if enum in self.enums:
                yield from (one.value for one in self.enums[enum].values())
            case ast.Call(func=called) if _name(called) in module.functions:
                returned = _returned(module.functions[_name(called)])
                yield from self._all(module, returned, kind)
            case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(tail))]):
                yield from (f"{sibling.upper()}{tail}" for sibling in self.siblings)
            case ast.Name(id=name):
                yield from self._named(module, value, name, kind)
            case _:
                raise UnreadError(ast.unparse(value))

    def _all(self, module: Module, values: Iterable[ast.expr], kind: str) -> Iterator[str]:
        for value in values:
            yield from self._values(module, value, kind)

    def _named(self, module: Module, node: ast.expr, name: str, kind: str) -> Iterator[str]:
        """What a name stands for: a parameter, a local, a captured subject, a constant."""
        function = module.around(node, Function)
        inside = list(ast.walk(function)) if function else []
        local = [value for found, value in _assigned(inside) if found == name]
        captured = [
            module.around(one, ast.Match).subject
            for one in inside
            if isinstance(one, ast.MatchAs) and one.name == name
        ]
        if local or captured:
            yield from self._all(module, [*local, *captured], kind)
        elif function and name in (parameters := _parameters(function)):
            self._add_taker(module, function, Taker(kind, parameters.index(name), name))
        elif constant := self._constant(module, name):
            yield from self._values(module, constant, kind)
        else:
            raise UnreadError(name)

    def _constant(self, module: Module, name: str) -> ast.expr | None:
        if (module.path, name) in self.constants:
            return self.constants[module.path, name]
        imported = [value for (_, found), value in self.constants.items() if found == name]
        return imported[0] if len(imported) == 1 else None

    def _add_taker(self, module: Module, function: Any, taker: Taker) -> None:
        """The callers of a function give its reason; those of a constructor name the class."""
        name = function.name
        if name in ("__call__", "run"):
            for path, field_name in self._fields(module.around(function, ast.ClassDef).name):
                self.takers[field_name, path] = taker
            return
        if name == "__init__":
            name = module.around(function, ast.ClassDef).name
        self.takers[name, module.path if name.startswith("_") else None] = taker

    def _fields(self, class_name: str) -> Iterator[tuple[Path, str]]:
        """Fields that hold an instance of a class, each with its file."""
        for module in self.modules:
            for node in module.classes:
                for line in node.body:
                    if isinstance(line, ast.AnnAssign) and _name(line.annotation) == class_name:
                        yield module.path, _name(line.target)


def error_bases(classes: Iterable[ast.ClassDef]) -> dict[str, str]:
    """The base of every error class below `ServiceError`, by name."""
    found: dict[str, str] = {}
    size = -1
    while len(found) > size:
        size = len(found)
        for node in classes:
            for base in map(_name, node.bases):
                if base in found or base == BASE:
                    found[node.name] = base
    return found


def _name(node: ast.AST) -> str:
    """The last part of a dotted name; empty for anything else."""
    return getattr(node, "attr", "") or getattr(node, "id", "")


def _first_name(node: ast.AST) -> str:
    """The first part of a dotted name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return _name(node)


def _assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Names that single assignments give a value."""
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                yield name, value


def _parameters(function: Any) -> list[str]:
    """As a caller counts them: without `self`, those by keyword alone last."""
    plain = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    keyword = [one.arg for one in function.args.kwonlyargs]
    return [one for one in (*plain, *keyword) if one not in ("self", "cls")]


def _returned(function: Any) -> list[ast.expr]:
    nodes = ast.walk(function)
    return [node.value for node in nodes if isinstance(node, ast.Return) and node.value]


def _siblings(module: Module) -> Iterator[str]:
    """Services that are called: each can be away."""
    for node in module.nodes:
        if isinstance(node, ast.Call) and _name(node.func) == "open_channel":
            for word in node.keywords:
                if word.arg == "service" and isinstance(word.value, ast.Constant):
                    yield str(word.value.value)
