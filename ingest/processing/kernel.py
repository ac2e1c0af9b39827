"""Calls of the Linux kernel for which Python has no function; elsewhere each fails as one that is not implemented."""

import ctypes
import errno
import os
import sys

_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_CAPABILITY_WORDS = 2 * 3  # effective, permitted and inheritable, for two times 32 capabilities


def prctl(option: int, argument: int = 0, pointer: object = None) -> None:
    """Change something about this process (prctl(2)); raises OSError."""
    arguments = (ctypes.c_ulong(argument), pointer or ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _call("prctl", ctypes.c_int(option), *arguments)


def syscall(number: int, *arguments: object) -> int:
    """Make a system call by its number (syscall(2)), integers as ``long``; returns its result or raises OSError."""
    words = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
    return _call("syscall", ctypes.c_long(number), *words)


def drop_capabilities() -> None:
    """Give up what root may do beyond others (capabilities(7)), for good; raises OSError."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * _CAPABILITY_WORDS)())


def _call(name: str, *arguments: object) -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
