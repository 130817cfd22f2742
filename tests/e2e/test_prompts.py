"""`aquifer prompts`, and a prompt in a question and in a conversation."""

import json

import pytest

pytestmark = pytest.mark.timeout(300)

WELL = "# The well of Brunnen\n\nThe well of Brunnen is forty metres deep.\n"
QUESTION = "How deep is the well of Brunnen?"


@pytest.fixture(scope="module")
def well(stack, tmp_path_factory):
    """A document in a collection of its own."""
    file = tmp_path_factory.mktemp("prompts") / "well.md"
    file.write_text(WELL)
    stack.json("upload", str(file), "-c", "prompted", "--wait")
    return "prompted"


def test_a_prompt_is_made_changed_used_and_deleted(stack, well, tmp_path):
    file = tmp_path / "support.txt"
    file.write_text("Be kind. Today is {today}.\n")
    [made] = stack.json("prompts", "create", "support", str(file), "--description", "first")
    assert (made["prompt"], made["version"], made["built_in"]) == ("support", 1, False)
    assert made["template"] == "Be kind. Today is {today}."
    [changed] = stack.json(
        "prompts", "update", "support", "-", "--expected-version", "1", typed="Be brief.\n"
    )
    assert (changed["version"], changed["template"]) == (2, "Be brief.")
    listed = stack.json("prompts", "list")
    assert [one["prompt"] for one in listed] == ["default", "support"]
    assert listed[1] == changed
    versions = stack.json("prompts", "versions", "support")
    assert [one["version"] for one in versions] == [2, 1]
    assert stack.json("prompts", "get", "support@1") == [versions[1]]

    steps = stack.json("ask", QUESTION, "-c", well, "--prompt", "support")
    assert steps[-1]["prompt"] == "prompts/support@2"
    assert stack.json("ask", QUESTION, "-c", well)[-1]["prompt"] == "prompts/default@1"
    asked, *steps = stack.json("chat", "-c", well, "--prompt", "support@1", typed=QUESTION)
    assert steps[-1]["prompt"] == "prompts/support@1"

    assert stack.json("prompts", "delete", "support", "--yes")[0]["deleted"]
    refused = stack.run("chat", "--conversation", asked["conversation"], "--json", typed=QUESTION)
    assert json.loads(refused.stdout.splitlines()[-1])["error"]["reason"] == "PROMPT_UNKNOWN"
    *_, finished = stack.json(
        "chat", "--conversation", asked["conversation"], "--prompt", "", typed=QUESTION
    )
    assert finished["prompt"] == "prompts/default@1"
