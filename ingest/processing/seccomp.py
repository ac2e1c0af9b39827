"""Takes system calls away from this process: those that reach the network, other processes or the machine.

A call that is taken away fails like one without permission (EPERM) and kills nobody, so that a library that merely
tries gets an error. Calls that are newer than this table fail like on an older kernel (ENOSYS).
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ingest.processing.kernel import prctl

# fmt: off
_DENIED: dict[str, tuple[int | None, int | None]] = {  # by their numbers on x86_64 and aarch64
    # the network, and descriptors through it
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "recvmmsg": (299, 243),
    # what would do the same past this filter
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # other programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "move_pages": (279, 239),
    "migrate_pages": (256, 238), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "setpriority": (141, 140), "ioprio_set": (251, 30),
    # memory and messages shared with other processes of the same user
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # what Landlock does not see of other files
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # the machine
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116),
    "vhangup": (153, 58), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
}
# fmt: on
_CLONE3 = 435  # everywhere; its flags are out of a filter's reach, and the C library falls back on clone
_NEWEST = 462  # mseal, of Linux 6.10; x86_64's second set of numbers, x32, is far above it too


@dataclass(frozen=True, slots=True, kw_only=True)
class _Architecture:
    audit: int  # AUDIT_ARCH_… of linux/audit.h
    column: int  # of `_DENIED`
    clone: int
    kill: int
    tgkill: int
    prlimit64: int


_ARCHITECTURES = {
    "x86_64": _Architecture(audit=0xC000003E, column=0, clone=56, kill=62, tgkill=234, prlimit64=302),
    "aarch64": _Architecture(audit=0xC00000B7, column=1, clone=220, kill=129, tgkill=131, prlimit64=261),
}

# linux/bpf_common.h: what a classic BPF instruction does, always to one 32-bit accumulator.
_LOAD, _RETURN, _IF_EQUAL, _IF_GREATER, _IF_BITS = 0x20, 0x06, 0x15, 0x25, 0x45
_NUMBER, _AUDIT_ARCH, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; of the argument its lower half
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_CLONE_THREAD = 0x00010000
_PR_SET_SECCOMP, _FILTER_MODE = 22, 2


class _Program(ctypes.Structure):
    """Struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def install() -> None:
    """Filter the system calls of this process from now on, for good; needs ``PR_SET_NO_NEW_PRIVS``.

    Raises:
        OSError: The kernel has no seccomp, or this is a machine whose numbers are not known here.
    """
    instructions = program(platform.machine(), os.getpid())
    prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(_Program(len(instructions) // 8, instructions)))


def program(machine: str, pid: int) -> bytes:
    """Return the filter of process ``pid`` on a machine as an array of ``struct sock_filter``.

    Threads may be started, processes not. Signals may be sent, and limits be set, by the process to itself.

    Raises:
        OSError: ENOSYS, on a machine whose numbers are not known here.
    """
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _instructions(_ARCHITECTURES[machine], pid))


def _instructions(architecture: _Architecture, pid: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield operation, instructions to skip if true, if false, and operand."""
    yield _LOAD, 0, 0, _AUDIT_ARCH
    yield _IF_EQUAL, 1, 0, architecture.audit
    yield _answer(errno.EPERM)
    yield _LOAD, 0, 0, _NUMBER
    yield _IF_GREATER, 0, 1, _NEWEST
    yield _answer(errno.ENOSYS)
    yield _IF_EQUAL, 0, 1, _CLONE3
    yield _answer(errno.ENOSYS)
    for numbers in _DENIED.values():
        number = numbers[architecture.column]
        if number is not None:
            yield _IF_EQUAL, 0, 1, number
            yield _answer(errno.EPERM)
    yield from _only(architecture.clone, _IF_BITS, _CLONE_THREAD)
    yield from _only(architecture.kill, _IF_EQUAL, pid)
    yield from _only(architecture.tgkill, _IF_EQUAL, pid)
    yield from _only(architecture.prlimit64, _IF_EQUAL, 0)
    yield _RETURN, 0, 0, _ALLOW


def _only(number: int, condition: int, operand: int) -> Iterator[tuple[int, int, int, int]]:
    """Allow a system call where its first argument fulfils the condition."""
    yield _IF_EQUAL, 0, 4, number
    yield _LOAD, 0, 0, _ARGUMENT
    yield condition, 0, 1, operand
    yield _RETURN, 0, 0, _ALLOW
    yield _answer(errno.EPERM)


def _answer(number: int) -> tuple[int, int, int, int]:
    return _RETURN, 0, 0, _ERRNO | number
