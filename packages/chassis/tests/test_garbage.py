"""Objects of the start are never visited by the collector again; garbage made later is removed."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from chassis.process.garbage import exempt_loaded_objects

class Node:
    pass

early = Node()
exempt_loaded_objects()
assert not any(one is early for one in gc.get_objects())
late = Node()
late.itself, dead = late, weakref.ref(late)
del late
gc.collect()
assert dead() is None
"""


def test_only_later_objects_are_collected():
    # In a process of its own: the exemption lasts until the process ends.
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
