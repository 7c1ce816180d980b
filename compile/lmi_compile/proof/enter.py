"""Seals the child process: new namespaces, everything read-only but one folder, then exec.

Usage: `python -I -S enter.py CONFIG`, CONFIG being JSON:
    argv, env, cwd: what is executed in the end; `@STARTED@` in argv becomes CLOCK_MONOTONIC then.
    tree: [folder, mount point]; the folder itself is hidden afterwards.
    scratch: the only folder that stays writable.
    empty: a folder that is empty; it covers what is hidden.
    status: file descriptor; one line of JSON says what was set up, or why it could not be.
    lifeline: file descriptor of a pipe; when its other end closes, everything here is killed.
    loopback: whether the loopback interface is brought up.
    user: user id that the program runs as, or null for the one it has; only as real root.

Three processes: this one stays outside as the guard, its child is process 1 of a new process
namespace, and that one's child becomes the program. Whoever dies, those below are killed by the
kernel. Standard library only. Numbers are those of the kernel's include/uapi (mount.h, sched.h,
prctl.h, sockios.h, if.h, asm-generic/unistd.h).
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = -100, 0x8000, 1, 442
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 47, 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
SYS_CAPSET, CAPABILITY_VERSION_3 = 126, 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
_NAMESPACES = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
_KEPT_CAPABILITIES = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}
_HIGHEST_CAPABILITY = 63
_LIBC = ctypes.CDLL(None, use_errno=True)
_MOUNT_ATTR = struct.Struct("=4Q")  # attr_set, attr_clr, propagation, userns_fd


def main() -> int:
    """Sets up, runs and guards.

    Returns:
        The program's exit code, 128 + the signal that ended it, or 125 when it was never started.
    """
    config = json.loads(sys.argv[1])
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        user_namespace = _unshare()
        pid = os.fork()
    except OSError as error:
        _say(config, error=f"new namespaces: {error.strerror or error}")
        return 125
    if pid == 0:
        os._exit(_first_process(config, user_namespace=user_namespace))
    return _guard(pid, config["lifeline"])


def _guard(pid: int, lifeline: int) -> int:
    """Waits for process 1; kills it when the one who asked for all this is gone."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    while all(found != ended for found, _ in poll.poll()):
        os.kill(pid, signal.SIGKILL)
        poll.unregister(lifeline)
    return _code(os.waitpid(pid, 0)[1])


def _first_process(config: dict[str, Any], *, user_namespace: bool) -> int:
    """Process 1: mounts, starts the program, reaps whatever is orphaned."""
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(config["lifeline"])
        fresh_proc = _mounts(config)
        if config["loopback"]:
            _loopback_up()
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        for capability in set(range(_HIGHEST_CAPABILITY + 1)) - _KEPT_CAPABILITIES:
            with contextlib.suppress(OSError):  # the kernel does not know them all
                _prctl(PR_CAPBSET_DROP, capability)
    except OSError as error:
        _say(config, error=f"{error.filename or 'sandbox'}: {error.strerror or error}")
        return 125
    namespaces = ["mount", "network", "pid", "ipc", *(["user"] if user_namespace else [])]
    _say(config, namespaces=namespaces, fresh_proc=fresh_proc)
    program = os.fork()
    if program == 0:
        _exec(config)
    while True:
        pid, status = os.wait()
        if pid == program:
            return _code(status)


def _exec(config: dict[str, Any]) -> None:
    try:
        os.close(config["status"])
        os.chdir(config["cwd"])
        if config["user"] is not None:
            _become(config["user"])
        started = repr(time.monotonic())
        argv = [arg.replace("@STARTED@", started) for arg in config["argv"]]
        os.execve(argv[0], argv, config["env"])  # noqa: S606 - an argv list, no shell
    finally:
        os._exit(126)


def _become(user: int) -> None:
    """Becomes another user, who may still read everything: the interpreter may be in /root."""
    _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kept = 1 << CAP_DAC_READ_SEARCH
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    sets = struct.pack("=6I", kept, kept, kept, 0, 0, 0)  # effective, permitted, inheritable
    _checked(_LIBC.syscall, ctypes.c_long(SYS_CAPSET), header, sets, what="capset")
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH)


def _unshare() -> bool:
    """Leaves the host's namespaces; says whether that took a user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        try:
            _checked(_LIBC.unshare, _NAMESPACES, what="unshare")
        except PermissionError:
            pass
        else:
            return False
    _checked(_LIBC.unshare, _NAMESPACES | CLONE_NEWUSER, what="unshare with a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    return True


def _mounts(config: dict[str, Any]) -> bool:
    """Builds the mount namespace; says whether /proc is the new process namespace's own."""
    source, tree = config["tree"]
    _mount(None, "/", MS_REC | MS_PRIVATE)
    _mount(source, tree, MS_BIND | MS_REC)
    _mount(config["empty"], source, MS_BIND)
    _mount(config["scratch"], config["scratch"], MS_BIND)
    try:
        _mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, kind="proc")
        fresh_proc = True
    except OSError:  # a container that masks parts of /proc forbids it; the old one still serves
        fresh_proc = False
    _mount_attributes("/", _MOUNT_ATTR.pack(MOUNT_ATTR_RDONLY, 0, 0, 0), AT_RECURSIVE)
    _mount_attributes(config["scratch"], _MOUNT_ATTR.pack(0, MOUNT_ATTR_RDONLY, 0, 0), 0)
    return fresh_proc


def _loopback_up() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def _mount(source: str | None, target: str, flags: int, kind: str | None = None) -> None:
    _checked(
        _LIBC.mount,
        os.fsencode(source) if source else None,
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        None,
        what=f"mount on {target}",
    )


def _mount_attributes(target: str, attributes: bytes, flags: int) -> None:
    _checked(
        _LIBC.syscall,
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_long(AT_FDCWD),
        os.fsencode(target),
        ctypes.c_long(flags),
        attributes,
        ctypes.c_size_t(len(attributes)),
        what=f"mount_setattr on {target}",
    )


def _prctl(option: int, value: int, third: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    values = (ctypes.c_ulong(value), ctypes.c_ulong(third), zero, zero)
    _checked(_LIBC.prctl, option, *values, what=f"prctl {option}")


def _checked(call: Callable[..., int], *args: object, what: str) -> None:
    if call(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def _say(config: dict[str, Any], **values: object) -> None:
    os.write(config["status"], json.dumps(values).encode() + b"\n")


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
