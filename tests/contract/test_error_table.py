"""docs/status-codes.md names exactly the reasons the services can give, each with its codes."""

import importlib
import re

import grpc
import pytest

from aquifer.services import NAMES
from chassis.base import errors
from chassis.base.errors import ServiceError
from chassis.rpc.server import PUBLIC
from chassis.rpc.status import STATUS_OF
from tests.contract.reasons import ROOT, VERDICT, Reasons, collect, error_bases, module_of, sources

PAGE = ROOT / "docs/status-codes.md"
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
ROW = re.compile(r"\| `(?P<reason>[A-Z0-9_]+)` \| (?P<codes>[A-Z_, -]+) \| (?P<rest>.*) \|")
CLASS_ROW = re.compile(r"\| (?P<code>[A-Z_]+) \| `(?P<kind>\w+)` \|")
SEEN = {"call", "document", "wait", "dead letter", "start", "log", "vectors"}
CODES = {code.name for code in grpc.StatusCode}
# `CODE REASON, REASON or REASON` in the comment of a method.
PROMISE = re.compile(rf"\b({'|'.join(sorted(CODES))}) ((?:[A-Z0-9]+_[A-Z0-9_]+(?:,? or |, )?)+)")
METHOD = re.compile(r"((?:  //.*\n)+)  rpc (\w+)")
UPPER = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")


@pytest.fixture(scope="module")
def found() -> Reasons:
    return collect(sources())


@pytest.fixture(scope="module")
def rows() -> dict[str, re.Match[str]]:
    matches = [match for line in PAGE.read_text().splitlines() if (match := ROW.fullmatch(line))]
    assert [m["reason"] for m in matches] == sorted({m["reason"] for m in matches})
    return {match["reason"]: match for match in matches}


def codes_of(reasons: Reasons) -> dict[str, set[str]]:
    """The gRPC codes each reason comes with; none for one that ends documents only."""
    bases = error_bases([node for path in sources() for node in module_of(path).classes])
    known = {kind.__name__: code.name for kind, code in STATUS_OF.items()}

    def code(kind: str) -> str:
        while kind not in known and kind in bases:
            kind = bases[kind]
        return known.get(kind, kind)

    return {
        reason: {code(kind) for kind in kinds - {VERDICT}}
        for reason, kinds in reasons.kinds.items()
    }


def undocumented(reasons: Reasons, documented: set[str]) -> set[str]:
    """Reasons of the code that the page lacks, and the other way round."""
    return set(reasons.kinds) ^ documented


def test_every_reason_can_be_read_from_the_source(found):
    assert found.unread == []
    assert len(found.kinds) > 100


def test_the_page_has_exactly_the_reasons_of_the_code(found, rows):
    assert undocumented(found, set(rows)) == set()


def test_a_reason_is_a_stable_name(found):
    assert [r for r in found.kinds if not NAME.fullmatch(r) or len(r) > 63] == []


def test_the_page_gives_each_reason_its_codes(found, rows):
    said = {reason: set(row["codes"].split(", ")) - {"-"} for reason, row in rows.items()}
    assert said == codes_of(found)
    assert set().union(*said.values()) <= CODES


def test_each_row_says_where_what_and_what_to_do(rows):
    for reason, row in rows.items():
        seen, means, do = row["rest"].split(" | ")
        assert set(seen.split(", ")) <= SEEN, reason
        assert len(means) > 5, reason
        assert len(do) > 5, reason


def test_every_class_of_failure_has_a_code_and_a_row():
    classes = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ServiceError) and kind is not ServiceError
    }
    assert classes == set(STATUS_OF)
    assert len(set(STATUS_OF.values())) == len(STATUS_OF)
    page = dict(CLASS_ROW.findall(PAGE.read_text()))
    assert page == {code.name: kind.__name__ for kind, code in STATUS_OF.items()}


def proto_comments() -> dict[str, str]:
    """Comments of each proto as one line of text, by file."""
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    return {
        str(path.relative_to(ROOT)): " ".join(
            line.strip().removeprefix("//").strip()
            for line in path.read_text().splitlines()
            if line.strip().startswith("//")
        )
        for path in protos
    }


def test_reasons_promised_by_the_protos_come_with_that_code(found):
    codes, wrong, promises = codes_of(found), [], 0
    for file, text in proto_comments().items():
        for code, listed in PROMISE.findall(text):
            for reason in UPPER.findall(listed):
                promises += 1
                if code not in codes.get(reason, ()):
                    wrong.append(f"{file}: {code} {reason}")
    assert wrong == []
    assert promises > 40


def test_no_proto_names_a_reason_that_does_not_exist(found):
    wrong = []
    for file, text in proto_comments().items():
        source = (ROOT / file).read_text()
        members = set(re.findall(r"^\s+([A-Z][A-Z0-9_]+) = \d+;", source, re.MULTILINE))
        for name in UPPER.findall(text):
            ours = name in found.kinds or name in CODES or name.startswith("AQUIFER_")
            if not ours and not any(member.endswith(name) for member in members):
                wrong.append(f"{file}: {name}")
    assert [line for line in wrong if not line.endswith(": UPPER_SNAKE")] == []


@pytest.mark.parametrize("service", NAMES)
def test_a_method_says_the_scope_it_needs(service):
    access = importlib.import_module(f"{service}.rpc").ACCESS
    proto = (ROOT / f"protos/aquifer/{service}/v1/{service}_service.proto").read_text()
    said = {}
    for comment, method in METHOD.findall(proto):
        text = " ".join(line.strip().removeprefix("// ") for line in comment.splitlines())
        scope = re.search(r"Scope `([a-z.]+)`", text)
        said[method] = frozenset({scope[1]}) if scope else PUBLIC if "Public" in text else None
    assert said == {name.rpartition("/")[2]: scopes for name, scopes in access.items()}
