"""The files that the preparation steps of compose.yaml create; needs no container engine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aquifer.services import NAMES, WITH_TABLES
from chassis.events import topology
from stack import roles, secrets
from stack.first_keys import FirstKeys
from stack.nats import Nats, NatsUser, find_server
from stack.nats_limits import LIMITS
from tests.containers.servers import prepare

DEPLOY = Path(__file__).parents[2] / "deploy"
GRANTS = {**topology.permissions(), "upstream-default": topology.upstream_permissions("default")}
PASSWORDS = {name: f"password-of-{name}" for name in GRANTS}


@pytest.fixture
def script(tmp_path):
    script = prepare()
    script.DATA, script.OUT = tmp_path / "data", tmp_path / "out"
    for folder in (script.DATA, *(script.OUT / part for part in OUTS)):
        folder.mkdir(parents=True)
    return script


OUTS = ("steps", "nats", "postgres", "qdrant", *NAMES)


def test_users_may_do_what_they_may_on_the_embedded_stack(script, tmp_path, guardian):
    users = [
        NatsUser(name=n, password=PASSWORDS[n], publish=g.publish, subscribe=g.subscribe)
        for n, g in GRANTS.items()
    ]
    embedded = Nats(tmp_path / "nats", users=users, guardian=guardian)._configuration()
    settings = script.nats_settings(GRANTS, PASSWORDS)
    assert settings["accounts"] == embedded["accounts"]
    assert {name: settings[name] for name in LIMITS} == {name: embedded[name] for name in LIMITS}
    assert settings["jetstream"]["sync_interval"] == "always"


def test_server_takes_its_settings(script):
    script.make_secrets()
    settings = script.OUT / "nats" / "nats.conf"
    asked = subprocess.run(
        [find_server(), "-t", "--config", settings],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "is valid" in asked.stderr
    assert asked.returncode == 0


def test_secrets_stay_the_same(script):
    script.make_secrets()
    first = {path: path.read_bytes() for path in script.OUT.rglob("*") if path.is_file()}
    script.make_secrets()
    assert first == {path: path.read_bytes() for path in first}
    private = {path for path in first if path.stat().st_mode & 0o077}
    assert {path.parent.name for path in private} == {"postgres", "qdrant"}


def test_a_service_learns_no_secret_of_another(script):
    known = secrets.load(
        script.DATA / "secrets.json", nats=GRANTS, postgres=("postgres", *roles.LOGINS)
    )
    keys = FirstKeys(
        tenant="default",
        api_key="operator",
        service_keys={name: f"key-of-{name}" for name in NAMES if name != "auth"},
    )
    given = {name: script.service_variables(name, known, keys) for name in NAMES}
    values = [value for variables in given.values() for value in variables.values()]
    assert len(values) == len(set(values))
    text = json.dumps(given)
    assert "operator" not in text
    assert known.postgres["postgres"] not in text
    assert not any(known.postgres[f"{service}_owner"] in text for service in WITH_TABLES)


def test_entrypoint_brings_secrets_as_they_are(script, tmp_path):
    (tmp_path / "probe.py").write_text("import os, sys; print(os.environ['ODD'], sys.argv[1:])")
    odd = "it's\ntwo $HOME `lines` \\"
    script._write_variables(tmp_path / "env", {"ODD": odd})
    run = subprocess.run(
        [DEPLOY / "entrypoint", "serve", "a b"],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "PYTHONPATH": str(tmp_path),
            "AQUIFER_ENV_FILE": str(tmp_path / "env"),
            "AQUIFER_MODULE": "probe",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.stdout == f"{odd} ['serve', 'a b']\n", run.stderr


@pytest.mark.parametrize("service", NAMES)
def test_images_hold_what_the_tests_run_with(service):
    locked = pins(DEPLOY.parent / "requirements.txt")
    own = pins(DEPLOY / "requirements" / f"{service}.txt")
    assert own
    assert own <= locked


def pins(path: Path) -> set[str]:
    return set(re.findall(r"^\S+==\S+", path.read_text(), re.MULTILINE))
