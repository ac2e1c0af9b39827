"""The filter of system calls, run by an interpreter of its own for both machines whose numbers it knows."""

import errno
import struct

import pytest

from ingest.processing.seccomp import program

PID = 4711
X86_64, AARCH64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028  # AUDIT_ARCH_… of linux/audit.h
ALLOW, PERMISSION, ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
CLONE_THREAD = 0x00010000
SIGCHLD = 17
OTHER = PID + 1

# Numbers as in the kernel's tables: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
CALLS = [
    # what it is, number on x86_64, on aarch64, first argument, answer
    pytest.param(0, 63, 0, ALLOW, id="read"),
    pytest.param(1, 64, 0, ALLOW, id="write"),
    pytest.param(257, 56, 0, ALLOW, id="openat"),
    pytest.param(9, 222, 0, ALLOW, id="mmap"),
    pytest.param(202, 98, 0, ALLOW, id="futex"),
    pytest.param(231, 94, 0, ALLOW, id="exit_group"),
    pytest.param(41, 198, 0, PERMISSION, id="socket"),
    pytest.param(53, 199, 0, PERMISSION, id="socketpair"),
    pytest.param(42, 203, 0, PERMISSION, id="connect"),
    pytest.param(44, 206, 0, PERMISSION, id="sendto"),
    pytest.param(46, 211, 0, PERMISSION, id="sendmsg"),
    pytest.param(59, 221, 0, PERMISSION, id="execve"),
    pytest.param(322, 281, 0, PERMISSION, id="execveat"),
    pytest.param(101, 117, 0, PERMISSION, id="ptrace"),
    pytest.param(310, 270, 0, PERMISSION, id="process_vm_readv"),
    pytest.param(425, 425, 0, PERMISSION, id="io_uring_setup"),
    pytest.param(321, 280, 0, PERMISSION, id="bpf"),
    pytest.param(165, 40, 0, PERMISSION, id="mount"),
    pytest.param(272, 97, 0, PERMISSION, id="unshare"),
    pytest.param(308, 268, 0, PERMISSION, id="setns"),
    pytest.param(250, 219, 0, PERMISSION, id="keyctl"),
    pytest.param(91, 52, 0, PERMISSION, id="fchmod"),
    pytest.param(56, 220, CLONE_THREAD | 0x0F00, ALLOW, id="clone of a thread"),
    pytest.param(56, 220, SIGCHLD, PERMISSION, id="clone of a process"),
    pytest.param(435, 435, 0, ABSENT, id="clone3"),
    pytest.param(62, 129, PID, ALLOW, id="kill of itself"),
    pytest.param(62, 129, OTHER, PERMISSION, id="kill of another"),
    pytest.param(62, 129, 0xFFFFFFFF, PERMISSION, id="kill of all"),
    pytest.param(234, 131, PID, ALLOW, id="tgkill of itself"),
    pytest.param(234, 131, OTHER, PERMISSION, id="tgkill of another"),
    pytest.param(302, 261, 0, ALLOW, id="prlimit64 of itself"),
    pytest.param(302, 261, OTHER, PERMISSION, id="prlimit64 of another"),
    pytest.param(462, 462, 0, ALLOW, id="mseal, the newest that is known"),
    pytest.param(463, 463, 0, ABSENT, id="setxattrat, newer than the table"),
    pytest.param(0x40000000 + 41, 0x40000000 + 41, 0, ABSENT, id="socket by its number in x32"),
]


@pytest.mark.parametrize(("x86_64", "aarch64", "argument", "answer"), CALLS)
def test_the_answer_to(x86_64: int, aarch64: int, argument: int, answer: int) -> None:
    assert run(program("x86_64", PID), X86_64, x86_64, argument) == answer
    assert run(program("aarch64", PID), AARCH64, aarch64, argument) == answer


@pytest.mark.parametrize("number", [0, 1, 41, 102])
def test_no_call_by_the_numbers_of_another_architecture(number: int) -> None:
    """A 64-bit process can make 32-bit calls, where 102 is ``socketcall``."""
    assert run(program("x86_64", PID), I386, number, 0) == PERMISSION
    assert run(program("aarch64", PID), ARM, number, 0) == PERMISSION


def test_no_filter_for_a_machine_whose_numbers_are_not_known() -> None:
    with pytest.raises(OSError, match="riscv64"):
        program("riscv64", PID)


def run(code: bytes, architecture: int, number: int, argument: int) -> int:
    """Interpret a classic BPF program over a ``struct seccomp_data``; returns what it returns."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, argument, 0, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("=HBBI", code))
    accumulator = position = 0
    while True:
        operation, if_true, if_false, operand = instructions[position]
        position += 1
        match operation:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                position += if_true if accumulator == operand else if_false
            case 0x25:  # BPF_JMP | BPF_JGT | BPF_K
                position += if_true if accumulator > operand else if_false
            case 0x45:  # BPF_JMP | BPF_JSET | BPF_K
                position += if_true if accumulator & operand else if_false
            case 0x06:  # BPF_RET | BPF_K
                return int(operand)
            case _:
                raise AssertionError(f"not in this filter: {operation:#x}")
