"""Takes the file system away from this process but for what is named: Landlock (docs.kernel.org, userspace-api)."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from ingest.processing.kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH = 1

# Rights to files, by the bits of linux/landlock.h.
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE  # what a rule for something that is no folder may hold

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many a version knows; from version 5 on:
_FILE_RIGHTS_NOW = 16
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_ALL_TCP = 0b11  # bind, connect
_ALL_SCOPES = 0b11  # abstract Unix sockets, signals


class _Ruleset(ctypes.Structure):
    """Struct landlock_ruleset_attr; an older kernel takes the newer fields as long as they are zero."""

    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    """Struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def restrict(*, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Allow this process, for good, nothing but these files and folders with all below them; needs no privilege.

    Files that are open already stay so, and ``stat`` still works everywhere. Needs ``PR_SET_NO_NEW_PRIVS``.

    Raises:
        OSError: The kernel has no Landlock, or a container forbids it; or a path does not exist.
    """
    version = syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    handled = (1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_NOW)) - 1
    attributes = _Ruleset(
        handled,
        _ALL_TCP if version >= _NETWORK_SINCE else 0,
        _ALL_SCOPES if version >= _SCOPES_SINCE else 0,
    )
    ruleset = syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in writable:
            _allow(ruleset, path, _WRITE & handled)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(rights if path.is_dir() else rights & _OF_FILES, parent)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
