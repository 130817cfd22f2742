"""A Go client can be generated from the protos, which name no Go package."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.contract.reasons import ROOT

TEMPLATE = ROOT / "protos" / "buf.gen.go.yaml"
PLUGIN = Path(__file__).with_name("go_packages.py")
BUF = Path(sys.executable).with_name("buf")
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The Go package of each proto, written by a plugin in place of those of the template."""
    folder = tmp_path_factory.mktemp("go")
    template = yaml.safe_load(TEMPLATE.read_text())
    assert [one["local"] for one in template["plugins"]] == ["protoc-gen-go", "protoc-gen-go-grpc"]
    template["plugins"] = [{"local": [sys.executable, str(PLUGIN)], "out": "gen"}]
    (folder / "buf.gen.yaml").write_text(yaml.safe_dump(template))
    done = subprocess.run(
        [BUF, "generate", "protos", "--template", folder / "buf.gen.yaml", "-o", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "gen"


@pytest.mark.parametrize("proto", PROTOS, ids=[one.stem for one in PROTOS])
def test_a_proto_has_the_package_of_its_folder(packages, proto):
    name = proto.relative_to(ROOT / "protos")
    path, _, package = (packages / name).read_text().partition(";")
    assert path == f"example.com/app/gen/{name.parent}"
    assert package == f"{name.parent.parent.name}{name.parent.name}"
    assert "go_package" not in proto.read_text()
