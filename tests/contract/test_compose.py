"""The compose files and the example of their settings name the same variables."""

import re
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = sorted(DEPLOY.glob("compose*.yaml"))
INTERPOLATED = re.compile(r"\$\{(\w+)")


class Loader(yaml.SafeLoader):
    """Reads the tags of compose, such as !override, as if they were not there."""


Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node))


def passed_on(file: Path) -> set[str]:
    """Variables of a service that have the value of the shell, because the file gives none."""
    services = yaml.load(file.read_text(), Loader)["services"].values()
    environments = [each.get("environment") or {} for each in services]
    return {name for one in environments for name, value in one.items() if value is None}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_of_a_compose_file_is_in_the_example(file: Path):
    known = set(re.findall(r"\b[A-Z][A-Z_]+\b", (DEPLOY / "compose.env.example").read_text()))
    assert {*INTERPOLATED.findall(file.read_text()), *passed_on(file)} <= known


def test_the_example_names_no_variable_that_no_file_uses():
    named = re.findall(
        r"^(?:# )?([A-Z][A-Z_]+)=", (DEPLOY / "compose.env.example").read_text(), re.MULTILINE
    )
    text = "".join(file.read_text() for file in FILES)
    assert [name for name in named if name not in text] == []
