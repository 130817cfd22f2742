"""Keys and tenants by the command, as an administrator uses it."""

import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.timeout(300)

KEY = {
    *("key_id", "name", "scopes", "labels", "state"),
    *("create_time", "expire_time", "revoke_time"),
}
TENANT = {"tenant", "name", "state", "create_time"}
REFUSED_WITHIN_S = 30  # promised are 5 s; the machine may be slow


def run_as(stack, api_key, *arguments):
    """The command with another key than the operator's."""
    addresses = {
        f"AQUIFER_{name.upper()}_ADDRESS": address
        for name, address in stack.endpoints.services.items()
    }
    return subprocess.run(
        [sys.executable, "-m", "aquifer_cli", *arguments],
        env={**os.environ, **addresses, "AQUIFER_API_KEY": api_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def read_reason(stack, *arguments):
    [record] = stack.json(*arguments)
    assert record["error"]["hint"]
    return record["error"]["reason"]


def wait_until(holds):
    deadline = time.monotonic() + REFUSED_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_key_is_shown_once_works_and_is_revoked(stack):
    created = stack.run("keys", "create", "reader", "-s", "search", "-s", "ask", "--days", "7")
    [api_key] = created.stdout.splitlines()  # a script reads it from here
    assert "not shown again" in created.stderr
    key_id = api_key.split("_")[1]
    assert run_as(stack, api_key, "search", "anything").returncode == 0

    listed = {one["key_id"]: one for one in stack.json("keys", "list")}
    assert set(listed[key_id]) == KEY
    assert (listed[key_id]["name"], listed[key_id]["scopes"]) == ("reader", ["ask", "search"])
    for_people = stack.run("keys", "list").stdout
    assert key_id in for_people
    assert api_key not in for_people

    [revoked] = stack.json("keys", "revoke", key_id)
    assert (set(revoked), revoked["state"]) == (KEY, "REVOKED")
    wait_until(lambda: "KEY_REVOKED" in run_as(stack, api_key, "search", "anything").stderr)
    assert stack.run("keys", "revoke", key_id).stdout.startswith(f"{key_id}: REVOKED")


def test_a_tenant_is_created_used_suspended_and_resumed(stack):
    [created] = stack.json("tenants", "create", "acme", "--name", "Acme Ltd")
    assert (set(created), created["name"], created["state"]) == (TENANT, "Acme Ltd", "ACTIVE")
    assert stack.json("tenants", "create", "acme", "--name", "Acme Ltd") == [created]
    assert created in stack.json("tenants", "list")
    assert "Acme Ltd" in stack.run("tenants", "list").stdout

    [made] = stack.json("keys", "create", "first", "--tenant", "acme", "-s", "keys.admin")
    assert set(made) == {*KEY, "api_key"}
    assert [one["name"] for one in stack.json("keys", "list", "--tenant", "acme")] == ["first"]
    assert run_as(stack, made["api_key"], "keys", "list").returncode == 0

    [suspended] = stack.json("tenants", "suspend", "acme")
    assert suspended["state"] == "SUSPENDED"
    wait_until(lambda: run_as(stack, made["api_key"], "keys", "list").returncode == 1)
    assert stack.run("tenants", "resume", "acme").stdout.startswith("acme: ACTIVE")
    wait_until(lambda: run_as(stack, made["api_key"], "keys", "list").returncode == 0)
    [revoked] = stack.json("keys", "revoke", made["key_id"], "--tenant", "acme")
    assert revoked["state"] == "REVOKED"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["keys", "revoke", "0123456789abcdef"], "KEY_UNKNOWN"),
        (["keys", "create", "x", "-s", "search", "--tenant", "nobody"], "TENANT_UNKNOWN"),
        (["keys", "list", "--tenant", "nobody"], "TENANT_UNKNOWN"),
        (["keys", "create", "x", "-s", "everything"], "SCOPE_UNKNOWN"),
        (["keys", "create", "x", "-s", "internal"], "SCOPE_EXCEEDED"),
        (["keys", "create", " ", "-s", "search"], "DISPLAY_NAME_INVALID"),
        (["tenants", "create", "No Blanks"], "TENANT_INVALID"),
        (["tenants", "create", "default", "--name", "Another"], "TENANT_EXISTS"),
        (["tenants", "suspend", "nobody"], "TENANT_UNKNOWN"),
        (["tenants", "suspend", "default"], "TENANT_OWN"),
        (["tenants", "suspend", "system"], "TENANT_RESERVED"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(stack, arguments, reason):
    assert read_reason(stack, *arguments) == reason


def test_the_key_in_use_is_not_revoked_by_mistake(stack):
    own = stack.endpoints.api_key.split("_")[1]
    refused = stack.run("keys", "revoke", own)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "KEY_OWN" in refused.stderr
    assert "--own" in refused.stderr
    listed = {one["key_id"]: one["state"] for one in stack.json("keys", "list")}
    assert listed[own] == "ACTIVE"


def test_without_the_scope_the_command_says_which(stack):
    [made] = stack.json("keys", "create", "narrow", "-s", "search")
    for arguments, scope in (
        (["keys", "list"], "keys.admin"),
        (["tenants", "list"], "tenants.admin"),
        (["tenants", "create", "other"], "tenants.admin"),
    ):
        refused = run_as(stack, made["api_key"], *arguments)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("SCOPE_MISSING")
        assert scope in refused.stderr
