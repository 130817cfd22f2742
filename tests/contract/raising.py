"""The errors that each function can raise, including those of the functions it calls."""

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.contract.names import Call, Place, last_name
from tests.contract.reasons import VERDICT, collect, error_bases
from tests.contract.references import Source

Reason = tuple[str, str]
# What is called with an error and does not carry it anywhere.
LOOKS = {"repr", "str", "type", "isinstance", "getattr"}


class Raises:
    """The kinds and reasons of every error that leaves a function."""

    def __init__(self, source: Source, paths: Iterable[Path]) -> None:
        self.source = source
        self._given = collect(paths).calls
        self._bases = error_bases(one.node for one in source.classes if one.node)
        self._known: dict[Any, set[Reason]] = {}
        self._asked: set[Any] = set()
        # A sibling's method by its service and name, given by `served`.
        self.served = served(source)

    def of(self, entry: Any, *, without: Iterable[Any] = ()) -> set[Reason]:
        """What a function raises; calls of `without` are left out."""
        self._known = {place: set() for place in without}
        fixed = set(self._known)
        while True:
            before = {place: len(found) for place, found in self._known.items()}
            self._asked = set(fixed)
            found = self._ask(entry)
            if before == {place: len(found) for place, found in self._known.items()}:
                return found

    def _ask(self, target: Any) -> set[Reason]:
        """What is known of a function, computed once a round."""
        if target not in self._asked:
            self._asked.add(target)
            found = self._sibling(target) if isinstance(target, Call) else self._body(target)
            self._known[target] = found | self._known.get(target, set())
        return self._known.get(target, set())

    def _body(self, place: Place, inside: set[Reason] | None = None) -> set[Reason]:
        """What a function raises; `inside` is what leaves the block a context manager is for."""
        body = place.node.body
        return self._lines(place, body if isinstance(body, list) else [body], inside or set())

    def _sibling(self, call: Call) -> set[Reason]:
        """What a call of a sibling raises here: its reasons, or that it can not be reached."""
        package = call.service.split(".")[-3]
        found = {("UnavailableError", f"{package.upper()}_UNAVAILABLE")}
        private = package == "vectors"
        if not private:
            found.add(("UnavailableError", "SERVICE_REFUSED"))
            found.add(("UnavailableError", "SERVICE_TOKEN_UNAVAILABLE"))
        method = self.served.get((call.service, call.method))
        theirs = self._ask(method) if method else set()
        refused = ("UnauthenticatedError", "ForbiddenError")
        theirs = {one for one in theirs if one[0] in self._bases}
        return found | {
            one for one in theirs if private or self.ancestors(one[0]).isdisjoint(refused)
        }

    def _lines(self, place: Place, lines: Iterable[ast.AST], inside: set[Reason]) -> set[Reason]:
        return set().union(*(self._line(place, line, inside) for line in lines))

    def _line(self, place: Place, node: ast.AST, inside: set[Reason]) -> set[Reason]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return set()  # counts where it is called
            case ast.Lambda():
                return self._ask(self.source.places[node])
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                found = self._lines(place, body, inside)
                kept: set[Reason] = set()
                for handler in handlers:
                    caught = {one for one in found if self._caught(one[0], handler.type)}
                    found -= caught
                    kept |= caught if keeps(handler) else set()
                found |= kept
                rest = [line for handler in handlers for line in handler.body]
                return found | self._lines(place, [*rest, *orelse, *final], inside)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                found = self._lines(place, body, inside)
                for item in reversed(items):
                    found = self._through(place, item.context_expr, found, inside)
                return found
            case ast.Yield() | ast.YieldFrom():
                return inside | self._children(place, node, inside)
            case ast.AnnAssign(value=value):
                return self._line(place, value, inside) if value else set()
        return self._children(place, node, inside) | self._direct(place, node)

    def _children(self, place: Place, node: ast.AST, inside: set[Reason]) -> set[Reason]:
        return self._lines(place, ast.iter_child_nodes(node), inside)

    def _direct(self, place: Place, node: ast.AST) -> set[Reason]:
        """Reasons given by a node itself, and those of the functions it calls or passes on."""
        match node:
            case ast.Call(func=called):
                targets = self.source.callees(place, called)
                found = {one for one in self._given.get(node, ()) if one[0] != VERDICT}
            case ast.Attribute() | ast.Name() if isinstance(node.ctx, ast.Load):
                targets, found = self.source.referred(place, node), set()
            case _:
                return set()
        return found.union(*(self._ask(target) for target in targets))

    def _through(
        self, place: Place, context: ast.expr, body: set[Reason], inside: set[Reason]
    ) -> set[Reason]:
        """What leaves a `with` block: a context manager of ours may turn one error into another."""
        if isinstance(context, ast.Call):
            if last_name(context.func) == "suppress":
                return {
                    one for one in body if not any(self._caught(one[0], a) for a in context.args)
                }
            managers = [
                target
                for target in self.source.callees(place, context.func)
                if isinstance(target, Place) and target.is_context
            ]
            if managers:
                arguments = [*context.args, *(word.value for word in context.keywords)]
                found = self._lines(place, arguments, inside)
                return found.union(*(self._body(one, body) for one in managers))
        return body | self._line(place, context, inside)

    def _caught(self, kind: str, caught: ast.expr | None) -> bool:
        names = {last_name(one) for one in ast.walk(caught)} if caught else {"BaseException"}
        return not self.ancestors(kind).isdisjoint(names)

    def ancestors(self, kind: str) -> set[str]:
        found = {kind, "ServiceError", "Exception", "BaseException"}
        while kind in self._bases:
            kind = self._bases[kind]
            found.add(kind)
        return found


def keeps(handler: ast.ExceptHandler) -> bool:
    """True when a handler raises again what it caught, keeps it for later, or passes it on."""
    for node in ast.walk(handler):
        match node:
            case ast.Raise(exc=None):
                return True
            case ast.Raise(exc=ast.Name(id=name)) | ast.Assign(value=ast.Name(id=name)):
                if name == handler.name:
                    return True
            case ast.Call(func=ast.Name(id=called), args=args) if called not in LOOKS:
                if handler.name in [one.id for one in args if isinstance(one, ast.Name)]:
                    return True
    return False


def served(source: Source) -> dict[tuple[str, str], Place]:
    """The method that serves each `package.Service` and name."""
    found: dict[tuple[str, str], Place] = {}
    for one in source.classes:
        for base in one.node.bases if one.node else ():
            name = last_name(base)
            module, member = one.module.imported.get(name, ("", ""))
            if module.startswith("aquifer.") and member.endswith("Servicer"):
                service = f"{module.rpartition('.')[0]}.{member.removesuffix('Servicer')}"
                for method, members in source.own_members(one).items():
                    if isinstance(members[0], Place):
                        found[service, method] = members[0]
    return found
