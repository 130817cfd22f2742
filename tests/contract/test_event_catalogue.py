"""docs/events.md agrees with the contract, and with what the services consume."""

import ast
import importlib.util
import shutil
from types import ModuleType

import pytest

from aquifer.services import NAMES
from chassis.events import topology
from tests.contract.reasons import ROOT

PROTOS = ROOT / "protos"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """`tools/event_catalogue.py`, which is no package's."""
    file = ROOT / "tools/event_catalogue.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tool) -> str:
    return tool.catalogue(PROTOS)


def test_the_catalogue_is_up_to_date(tool, page):
    assert tool.PAGE.read_text() == page, "run `just events`"


def test_every_event_and_field_says_what_it_is(tool, page):
    said = tool.comments(PROTOS)
    for event in topology.events():
        assert f"\n## {event.name}\n" in page
        for name in (event.full_name, *(field.full_name for field in event.fields)):
            assert said[name].strip(), name


def test_a_changed_comment_makes_the_catalogue_stale(tool, page, tmp_path):
    protos = shutil.copytree(PROTOS, tmp_path / "protos")
    file = protos / "aquifer/ingest/v1/upload_events.proto"
    text = file.read_text()
    file.write_text(text.replace("// Content of a document by reference.", "// Planted words."))
    assert tool.catalogue(protos) != page
    file.write_text(text)
    assert tool.catalogue(protos) == page


@pytest.mark.parametrize("service", NAMES)
def test_a_service_consumes_what_the_contract_says(service):
    consumed = [
        ast.unparse(node.args[0])
        for path in (ROOT / f"services/{service}/src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "events.on"
    ]
    named = [e.name for e in topology.events() if service in topology.options(e).consumers]
    assert sorted(consumed) == sorted(named)
