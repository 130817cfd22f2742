"""Removes from the calling process all rights that parsing does not need; Linux only.

Each control is independent; one that the kernel refuses is reported. They cannot be undone, so use
them only in a process that ends with its document.
"""

import ctypes
import errno
import os
import resource
import signal
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
CAPABILITY_VERSION_3 = 0x20080522

# The same numbers on every architecture since Linux 5.13.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_QUERY_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 1 << 2, 1 << 3
# Rights by version of the interface: files since 1, TCP since 4, signals and abstract sockets
# since 6. A right that is handled and not granted is denied.
LANDLOCK_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
LANDLOCK_TCP_SINCE, LANDLOCK_SCOPES_SINCE = 4, 6

# Libraries with threads reserve more addresses than they use; the limit of data is the one that
# counts for memory.
ADDRESSES_PER_BYTE = 2

_libc = ctypes.CDLL(None, use_errno=True)


class Bounds(NamedTuple):
    """Limits of the process."""

    memory_bytes: int
    cpu_s: int
    open_files: int


def enter(bounds: Bounds, parent: int) -> dict[str, str]:
    """Limit and isolate the process; to be called first.

    Returns:
        The name of each control and the kernel's refusal, empty if the control holds.
    """
    return _apply(
        resource_limits=lambda: _limit(bounds),
        no_new_privileges=lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1),
        own_users=_leave_users,
        own_network=_leave_network,
        no_capabilities=_drop_capabilities,
        dies_with_parent=lambda: _die_with_parent(parent),
    )


def seal(*folders: str) -> dict[str, str]:
    """Remove access to files and signals; call it after all libraries are loaded, see `enter`.

    `folders` stay readable.
    """
    return _apply(files_and_signals=lambda: _seal_files(folders))


def limit_processes(threads: int, report: dict[str, str]) -> dict[str, str]:
    """Forbid new processes, and threads beyond `threads`; see `enter`, whose report it needs.

    The kernel counts all processes of the user. So some threads can be allowed only in a user
    namespace of its own; none can always be, as the limit is then reached by any process.
    """

    def limit() -> None:
        if threads and report["own_users"]:
            raise OSError(errno.EPERM, "threads are not limited without a user namespace")
        resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads))

    return _apply(no_processes=limit)


def bound_time(cpu_s: int) -> None:
    """Limit the processor time from now on, below the limit of `enter`."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    # The limit is in whole seconds.
    wanted = ceil(used.ru_utime + used.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, wanted), hard))


def _apply(**controls: Callable[[], None]) -> dict[str, str]:
    report = {}
    for name, control in controls.items():
        try:
            control()
        except OSError as error:
            report[name] = error.strerror or type(error).__name__
        else:
            report[name] = ""
    return report


def _limit(bounds: Bounds) -> None:
    for kind, soft, hard in (
        (resource.RLIMIT_AS, *[ADDRESSES_PER_BYTE * bounds.memory_bytes] * 2),
        (resource.RLIMIT_DATA, bounds.memory_bytes, bounds.memory_bytes),
        # The soft limit kills with its own signal, which gives the parent the reason.
        (resource.RLIMIT_CPU, bounds.cpu_s, bounds.cpu_s + 1),
        (resource.RLIMIT_NOFILE, bounds.open_files, bounds.open_files),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))


def _leave_users() -> None:
    """Enter a user namespace, in which the process counts alone and may leave the network."""
    _call(_libc.unshare, CLONE_NEWUSER)


def _leave_network() -> None:
    """Enter a network namespace without routes or interfaces; root can do so by itself."""
    _call(_libc.unshare, CLONE_NEWNET | CLONE_NEWIPC)


def _drop_capabilities() -> None:
    """Drop all capabilities, also those of the new user namespace, to reduce attack surface."""
    header = struct.pack("=II", CAPABILITY_VERSION_3, 0)
    _call(_libc.capset, header, bytes(24))


def _die_with_parent(parent: int) -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent has ended")


def _seal_files(folders: Sequence[str]) -> None:
    """Use Landlock: Python's own files and `folders` stay readable; nothing can be written."""
    version = _call(_libc.syscall, LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_QUERY_VERSION)
    rights = (1 << LANDLOCK_FILE_RIGHTS[min(version, max(LANDLOCK_FILE_RIGHTS))]) - 1
    attributes = struct.pack("=Q", rights)
    if version >= LANDLOCK_TCP_SINCE:
        attributes += struct.pack("=Q", 0b11)
    if version >= LANDLOCK_SCOPES_SINCE:
        attributes += struct.pack("=Q", 0b11)
    ruleset = _call(_libc.syscall, LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in filter(os.path.exists, (*sys.path, *folders)):
            _allow_reading(ruleset, path)
        _call(_libc.syscall, LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, path: str) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_folder = stat.S_ISDIR(os.fstat(beneath).st_mode)
        rights = LANDLOCK_READ_FILE | (LANDLOCK_READ_DIR if is_folder else 0)
        rule = struct.pack("=Qi", rights, beneath)
        _call(_libc.syscall, LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)


def _prctl(option: int, value: int) -> None:
    _call(_libc.prctl, option, value, 0, 0, 0)


def _call(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
