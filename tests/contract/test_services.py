"""Everything that lists services agrees with `aquifer.services`."""

import json
import subprocess
import sys
from pathlib import Path

# In a process of its own: what follows from the entries is worked out on import.
FIFTH = """
import json, sys
from aquifer import services

fifth = services.Service(name="billing", tables=True)
services.SERVICES = (*services.SERVICES, fifth)
services.NAMES += ("billing",)
services.WITH_TABLES += ("billing",)
services.WITH_KEY += ("billing",)

from pathlib import Path
from aquifer_cli import endpoints, status
from auth.usecases.service_keys import SERVICES as keyed
from chassis.events import topology
from stack import roles, up

with up.Stack(Path(sys.argv[1])) as stack:
    environment = stack._environment("billing")
    users = [user.name for user in stack.nats.users]
    ports = list(stack._ports)
print(json.dumps({
    "grants": "billing" in topology.permissions(),
    "bus user": "billing" in users,
    "roles": [name for name in roles.LOGINS if name.startswith("billing")],
    "key": "billing" in keyed,
    "ports": [name for name in ports if name.startswith("billing")],
    "environment": sorted(k for k in environment if "BILLING" in k or k.endswith("DSN")),
    "command": "billing" in status.NAMES and "billing" in endpoints.NAMES,
}))
"""


def test_a_fifth_service_is_one_entry(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FIFTH, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "grants": True,
        "bus user": True,
        "roles": ["billing", "billing_owner"],
        "key": True,
        "ports": ["billing", "billing-metrics"],
        "environment": ["AQUIFER_BILLING_ADDRESS", "AQUIFER_POSTGRES_DSN"],
        "command": True,
    }


def test_no_module_lists_the_services_beside_the_registry():
    """Two of their names side by side in a tuple or list is a second registry."""
    root = Path(__file__).parents[2]
    names = ("auth", "ingest", "query", "inference")
    pairs = {f'"{a}", "{b}"' for a in names for b in names if a != b}
    found = [
        f"{file.relative_to(root)}:{number}"
        for file in sorted(root.glob("*/*/src/**/*.py"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if any(pair in line for pair in pairs)
    ]
    # The demo names the services a trace must have passed.
    assert [place.partition(":")[0] for place in found] == ["packages/cli/src/aquifer_cli/demo.py"]
