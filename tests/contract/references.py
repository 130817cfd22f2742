"""Resolves names in our sources: the types of values, and the functions that a call can run.

A value's type is the set of our classes that its annotations name, whatever they are wrapped in.
A Protocol stands for the classes that implement it, and a callable field for whatever the wiring
passes for it.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.contract.names import (
    Call,
    Class,
    Function,
    Names,
    Place,
    Scoped,
    assigned,
    bindings,
    dotted,
    last_name,
    nested,
)
from tests.contract.reasons import module_of

# Called when an object is made or used in `with`, and by no name.
IMPLICIT = ("__init__", "__post_init__", "__aenter__", "__aexit__", "__enter__", "__exit__")


class Source:
    """All modules together: what a name, an attribute or a call refers to."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.modules = {name: Names(name, module_of(path)) for path, name in dotted(paths)}
        self.stubs: dict[str, Class] = {}
        self.classes = [
            one
            for module in self.modules.values()
            for one in module.defined.values()
            if isinstance(one, Class)
        ]
        self._made: dict[Class, list[tuple[Place, ast.Call]]] = {}
        self._visiting: set[Any] = set()
        self._types_known: dict[Any, set[Class]] = {}
        self.places = {node: place for place, node in self._all_places()}
        for place, call in self._all_calls():
            for made in self._refer(place, call.func):
                if isinstance(made, Class):
                    self._made.setdefault(made, []).append((place, call))

    def _all_places(self) -> Iterator[tuple[Place, ast.AST]]:
        for module in self.modules.values():
            for node in module.module.nodes:
                if isinstance(node, Scoped):
                    yield self.place(module, node), node

    def _all_calls(self) -> Iterator[tuple[Place, ast.Call]]:
        for module in self.modules.values():
            for node in module.module.nodes:
                if isinstance(node, ast.Call):
                    around = module.module.around(node, Scoped)
                    yield self.places.get(around) or Place(module, module.module.nodes[0]), node

    def place(self, names: Names, node: ast.AST) -> Place:
        """A function with the class it is a method of, also through a function around it."""
        owner = names.module.around(node, ast.ClassDef)
        known = names.defined.get(owner.name) if owner else None
        return Place(names, node, known if isinstance(known, Class) else None)

    def member(self, module_name: str, name: str) -> Any:
        """A function, class, alias or module by its full name; None for what is not ours."""
        if not name:
            return self.modules.get(module_name)
        module = self.modules.get(module_name)
        if module is None:
            if module_name.startswith("aquifer.") and name.endswith("Stub"):
                service = f"{module_name.rpartition('.')[0]}.{name.removesuffix('Stub')}"
                return self.stubs.setdefault(service, Class(name, stub=service))
            return self.modules.get(f"{module_name}.{name}")
        if name in module.defined:
            return module.defined[name]
        if name in module.assigned:
            return (module, module.assigned[name])
        if name in module.imported:
            return self.member(*module.imported[name])
        return self.modules.get(f"{module_name}.{name}")

    @cache  # noqa: B019 (one Source lives as long as the tests)
    def bases(self, one: Class) -> list[Class]:
        found = [self._static(one.module, base) for base in (one.node.bases if one.node else ())]
        return [base for base in found if isinstance(base, Class)]

    def _static(self, module: Names | None, node: ast.expr) -> Any:
        """What an expression of names alone refers to."""
        match node:
            case ast.Name(id=name) if module:
                return self.member(module.name, name)
            case ast.Attribute(value=value, attr=name):
                inside = self._static(module, value)
                return self.member(inside.name, name) if isinstance(inside, Names) else None
            case ast.Subscript(value=value):
                return self._static(module, value)
        return None

    def mentioned(self, module: Names, annotation: ast.expr | None) -> set[Class]:
        """The classes of ours that an annotation names, through aliases."""
        found: set[Class] = set()
        for node in ast.walk(annotation) if annotation else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= self.mentioned(module, ast.parse(node.value, mode="eval").body)
            elif isinstance(node, ast.Name | ast.Attribute):
                match self._static(module, node):
                    case Class() as one:
                        found.add(one)
                    case (Names() as other, ast.expr() as value) if not isinstance(value, ast.Call):
                        found |= self.mentioned(other, value)
        return found

    def is_protocol(self, one: Class) -> bool:
        return bool(one.node) and "Protocol" in map(last_name, one.node.bases)

    @cache  # noqa: B019 (one Source lives as long as the tests)
    def implementations(self, one: Class) -> set[Class]:
        """A class and those below it; for a Protocol without any, those with all its members."""
        below = {one}
        while more := {
            other for other in self.classes if other not in below and below & {*self.bases(other)}
        }:
            below |= more
        names = {name for name in self.own_members(one) if not name.startswith("_")}
        if self.is_protocol(one) and len(below) == 1 and names:
            below |= {
                other
                for other in self.classes
                if not self.is_protocol(other) and names <= {*self.own_members(other)}
            }
        return below

    @cache  # noqa: B019 (one Source lives as long as the tests)
    def own_members(self, one: Class) -> dict[str, list[Any]]:
        """Methods as places, fields as pairs of their place and annotation or value."""
        found: dict[str, list[Any]] = {}
        if one.node is None or one.module is None:
            return found
        for line in one.node.body:
            match line:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    method = self.places[line]
                    found.setdefault(line.name, []).append(method)
                    for node in ast.walk(line):
                        for target, value in assigned(node):
                            if (
                                isinstance(target, ast.Attribute)
                                and last_name(target.value) == "self"
                            ):
                                found.setdefault(target.attr, []).append((method, value))
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    found.setdefault(name, []).append((Place(one.module, one.node), annotation))
        return found

    def members(self, one: Class, name: str) -> list[Any]:
        """A member, looked for in the class and then in its bases."""
        if found := self.own_members(one).get(name):
            return found
        return [member for base in self.bases(one) for member in self.members(base, name)]

    def types(self, place: Place, node: ast.expr | None) -> set[Class]:
        """The classes an expression's value may be of, or hold."""
        key = (place, node)
        if node is None or key in self._visiting:
            return set()
        if key not in self._types_known:
            self._visiting.add(key)
            found = self._types(place, node)
            self._visiting.discard(key)
            if self._visiting:  # a name that is defined by itself may be known in part only
                return found
            self._types_known[key] = found
        return self._types_known[key]

    def _types(self, place: Place, node: ast.expr) -> set[Class]:
        match node:
            case ast.Name(id="self" | "cls") if place.owner:
                return {place.owner}
            case ast.Name(id=name):
                return self._named(place, name)
            case ast.Attribute():
                return self._attribute(place, node)
            case ast.Call():
                return self._result(place, node)
            case ast.Lambda():
                return set()
        return set().union(*(self.types(place, one) for one in ast.iter_child_nodes(node)))

    def _attribute(self, place: Place, node: ast.Attribute) -> set[Class]:
        found: set[Class] = set()
        for one in self.types(place, node.value):
            for member in self.members(one, node.attr):
                match member:
                    case Place():
                        found |= self.mentioned(member.module, member.node.returns)
                    case (where, given):
                        found |= self._field(where, given)
        return found

    def _result(self, place: Place, node: ast.Call) -> set[Class]:
        """What a call gives: its own return type; from outside, what it was called on or with."""
        called, found = node.func, set()
        targets = self._refer(place, called)
        for target in targets:
            match target:
                case Class():
                    found.add(target)
                case Place(node=ast.FunctionDef() | ast.AsyncFunctionDef()):
                    found |= self.mentioned(target.module, target.node.returns)
        inside = called.value if isinstance(called, ast.Attribute) else None
        loose = [] if targets else [inside, *node.args]
        return found.union(*(self.types(place, one) for one in (called, *loose)))

    def _field(self, where: Place, given: ast.expr) -> set[Class]:
        if isinstance(where.node, ast.ClassDef):
            return self.mentioned(where.module, given)
        return self.types(where, given)

    def _named(self, place: Place, name: str) -> set[Class]:
        """A parameter or a local of a function or of one around it, or a name of the module."""
        node = place.node
        while isinstance(node, Scoped):
            here = self.places[node]
            arguments = node.args
            if isinstance(node, ast.Lambda) and name in [one.arg for one in arguments.args]:
                return self._lambda_argument(place, node)
            for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if one.arg == name and one.annotation:
                    return self.mentioned(place.module, one.annotation)
            if sources := bindings(node).get(name):
                return set().union(*(self.types(here, value) for value in sources))
            node = place.module.module.around(node, Scoped)
        match self.member(place.module.name, name):
            case (Names() as module, ast.expr() as value):
                return self.types(Place(module, module.module.nodes[0]), value)
        return set()

    def _lambda_argument(self, place: Place, node: ast.Lambda) -> set[Class]:
        """What a lambda is given: the classes that the parameter it is passed for names."""
        call = place.module.module.parents[node]
        if not isinstance(call, ast.Call) or node not in call.args:
            return set()
        around = self.places.get(place.module.module.around(node, Scoped))
        found: set[Class] = set()
        for target in self._refer(around, call.func) if around else ():
            if isinstance(target, Place) and isinstance(target.node, Function):
                parameters = [one for one in target.node.args.args if one.arg != "self"]
                annotation = parameters[call.args.index(node)].annotation
                found |= self.mentioned(target.module, annotation)
        return found

    def _refer(self, place: Place, node: ast.expr) -> set[Any]:
        """Functions, and classes as such, that a name or attribute refers to."""
        match node:
            case ast.Name(id=name):
                return self._refer_name(place, name)
            case ast.Attribute(value=value, attr=attr):
                match self._static(place.module, node):
                    case Place() | Class() as known:
                        return {known}
                found: set[Any] = set()
                for one in self.types(place, value):
                    if one.stub:
                        found.add(Call(one.stub, attr))
                    for impl in self.implementations(one):
                        found |= {m for m in self.members(impl, attr) if isinstance(m, Place)}
                return found
            case ast.Call(func=ast.Name(id="super")):
                return set()
        return set()

    def _refer_name(self, place: Place, name: str) -> set[Any]:
        node = place.node
        while isinstance(node, Scoped):
            if inner := nested(node).get(name):
                return {self.places[inner]}
            node = place.module.module.around(node, Scoped)
        known = self.member(place.module.name, name)
        return {known} if isinstance(known, Place | Class) else set()

    def callees(self, place: Place, node: ast.expr) -> set[Any]:
        """Everything that runs when an expression is called."""
        found: set[Any] = set()
        stored = ".store" in place.module.name
        for target in self._refer(place, node):
            # What a store reads was checked when it was written.
            if isinstance(target, Class) and not stored:
                found |= {
                    member
                    for name in IMPLICIT
                    for member in self.members(target, name)
                    if isinstance(member, Place)
                }
            elif not isinstance(target, Class):
                found.add(target)
        return found or self.given(place, node)

    def referred(self, place: Place, node: ast.expr) -> set[Any]:
        """Functions that are named without being called here: whoever gets them may call them."""
        return {one for one in self._refer(place, node) if isinstance(one, Place | Call)}

    def given(self, place: Place, node: ast.expr | None) -> set[Any]:
        """The functions that a value can be: what a callable field or local was wired with."""
        key = ("given", place, node)
        if node is None or key in self._visiting:
            return set()
        self._visiting.add(key)
        try:
            return self._given(place, node)
        finally:
            self._visiting.discard(key)

    def _given(self, place: Place, node: ast.expr) -> set[Any]:
        found = self.referred(place, node)
        for one in self.types(place, node):
            for impl in self.implementations(one):
                found |= {m for m in self.members(impl, "__call__") if isinstance(m, Place)}
        match node:
            case ast.Lambda():
                return found | {self.places[node]}
            case ast.Call(func=called, args=[first, *_]) if last_name(called) == "partial":
                return found | self.given(place, first)
            case ast.Call(func=called):
                return found | self.referred(place, called)
            case ast.Name(id=name) if isinstance(place.node, Scoped):
                values = bindings(place.node).get(name, ())
                return found.union(*(self.given(place, value) for value in values))
            case ast.Attribute(value=value, attr=attr):
                return found.union(*(self._wired(one, attr) for one in self.types(place, value)))
        return found

    def _wired(self, one: Class, name: str) -> set[Any]:
        """What the calls of a class pass for one of its fields."""
        fields = [
            line.target.id
            for line in (one.node.body if one.node else ())
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        ]
        for where, value in (m for m in self.members(one, name) if isinstance(m, tuple)):
            if isinstance(value, ast.Name) and isinstance(where.node, Function):
                arguments = where.node.args
                fields = [arg.arg for arg in (*arguments.args[1:], *arguments.kwonlyargs)]
                name = value.id
        found: set[Any] = set()
        for place, call in self._made.get(one, ()):
            values = [word.value for word in call.keywords if word.arg == name]
            if name in fields and fields.index(name) < len(call.args):
                values.append(call.args[fields.index(name)])
            for value in values:
                found |= self.given(place, value)
        return found
