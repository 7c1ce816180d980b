"""The policy's data: which calls are watched, and what names mean.

Call names and the positions of their arguments: section 2 of the Linux manual.
"""

import re

# Path arguments that a call changes: (position of the directory descriptor or None, of the path).
CHANGES: dict[str, tuple[tuple[int | None, int], ...]] = {
    "chmod": ((None, 0),),
    "chown": ((None, 0),),
    "fchmodat": ((0, 1),),
    "fchmodat2": ((0, 1),),
    "fchownat": ((0, 1),),
    "futimesat": ((0, 1),),
    "lchown": ((None, 0),),
    "link": ((None, 1),),
    "linkat": ((2, 3),),
    "lremovexattr": ((None, 0),),
    "lsetxattr": ((None, 0),),
    "mkdir": ((None, 0),),
    "mkdirat": ((0, 1),),
    "mknod": ((None, 0),),
    "mknodat": ((0, 1),),
    "removexattr": ((None, 0),),
    "rename": ((None, 0), (None, 1)),
    "renameat": ((0, 1), (2, 3)),
    "renameat2": ((0, 1), (2, 3)),
    "rmdir": ((None, 0),),
    "setxattr": ((None, 0),),
    "symlink": ((None, 1),),
    "symlinkat": ((1, 2),),
    "truncate": ((None, 0),),
    "unlink": ((None, 0),),
    "unlinkat": ((0, 1),),
    "utime": ((None, 0),),
    "utimensat": ((0, 1),),
    "utimes": ((None, 0),),
}
# The same for calls that name what they change by an open descriptor, the first argument.
CHANGES_DESCRIPTOR = frozenset({"fchmod", "fchown", "fremovexattr", "fsetxattr"})
# Opening: (position of the directory descriptor or None, of the path, of the flags or None).
OPENS: dict[str, tuple[int | None, int, int | None]] = {
    "creat": (None, 0, None),
    "open": (None, 0, 1),
    "openat": (0, 1, 2),
    "openat2": (0, 1, 2),
}
# Sending: position of the socket address.
SENDS: dict[str, int] = {"connect": 1, "sendto": 4, "sendmsg": 1, "sendmmsg": 1}
EXECUTES = frozenset({"execve", "execveat"})
MAPS = frozenset({"mmap", "mprotect", "pkey_mprotect"})
# What would change the sandbox, look into another process, or do work no tracer can see.
ESCAPES = frozenset(
    {
        "bpf", "chroot", "fsmount", "io_uring_setup", "mount", "mount_setattr", "move_mount",
        "open_by_handle_at", "pivot_root", "process_vm_writev", "ptrace", "setns", "umount2",
        "unshare",
    }
)  # fmt: skip
_FOLLOWS = frozenset({"bind", "chdir", "clone", "clone3", "fchdir", "fork", "vfork"})
TRACED: tuple[str, ...] = tuple(
    sorted({*CHANGES, *CHANGES_DESCRIPTOR, *OPENS, *SENDS} | EXECUTES | MAPS | ESCAPES | _FOLLOWS)
)

WRITE_FLAGS = re.compile(r"\b(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE)\b")
# Character devices that keep nothing.
HARMLESS_DEVICES = frozenset(
    {"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}
)
# glibc names another thread by writing here (pthread_setname_np(3)).
THREAD_NAME = re.compile(r"^/proc/(self|thread-self|\d+)(/task/\d+)?/comm$")
EXECUTABLE_NAME = re.compile(r"\.(so(\.\d+)*|o|a|cubin|fatbin|hsaco|ptx|neff)$")
ELF_MAGIC = b"\x7fELF"

# Python packages that compile, or that hold a JIT's front end.
COMPILE_PACKAGES: tuple[str, ...] = ("torch/_inductor", "torch/_dynamo", "triton", "transformers")
PYTHON_FILE = re.compile(r"\.(py|pyc|so|abi3\.so|cpython-\S+\.so)$")
SITE_PACKAGES = re.compile(r"^.*/(?:site|dist)-packages/")

_COMPILERS = frozenset(
    {
        "ar", "as", "bazel", "c++", "c89", "c99", "cargo", "cc", "cc1", "cc1plus", "cicc", "clang",
        "clang++", "clang-cpp", "cmake", "collect2", "cpp", "cudafe++", "fatbinary", "g++", "gcc",
        "gcc-ar", "gfortran", "gmake", "gold", "hipcc", "icc", "icpc", "icpx", "icx", "ld",
        "ld.bfd", "ld.gold", "ld.lld", "ld.mold", "llc", "lld", "lto-wrapper",
        "lto1", "make", "meson", "mold", "neuron-cc", "neuronx-cc", "ninja", "nvcc", "nvlink",
        "objcopy", "opt", "ptxas", "ranlib", "rustc", "strip", "tcc", "trtexec", "trtllm-build",
    }
)  # fmt: skip
_VERSION_SUFFIX = re.compile(r"(-\d+(\.\d+)*)$")
_TARGET = re.compile(r"^(x86_64|aarch64|arm64|i[3-6]86|riscv64)-")


def compiler_name(path: str) -> str | None:
    """The compiler, assembler, linker or build tool that a program's file name says it is.

    Args:
        path: such as `/usr/bin/x86_64-linux-gnu-g++-12`.

    Returns:
        Its plain name, such as `g++`, or None.
    """
    name = _VERSION_SUFFIX.sub("", path.rpartition("/")[2])
    if _TARGET.match(name) is None:
        return name if name in _COMPILERS else None
    parts = name.split("-")
    shorter = ("-".join(parts[start:]) for start in range(1, len(parts)))
    return next((candidate for candidate in shorter if candidate in _COMPILERS), None)


def compile_package(path: str) -> str | None:
    """The compiling Python package that a file belongs to, with dots, or None.

    Below `site-packages` the package must be the outermost one: another package may well have a
    folder called `transformers`.
    """
    if PYTHON_FILE.search(path) is None:
        return None
    installed = SITE_PACKAGES.sub("/", path)
    for package in COMPILE_PACKAGES:
        inside = f"/{package}/"
        if installed.startswith(inside) or (installed == path and inside in path):
            return package.replace("/", ".")
    return None
