"""strace's text, as strace 6.1 really wrote it."""

from lmi_compile.proof.processes import Processes
from lmi_compile.proof.trace import Call, Trace, child_pid, descriptor_path, parse, string, strings


def _parsed(text: str) -> Trace:
    return parse(text.strip("\n").splitlines(keepends=True))


def _only(text: str) -> Call:
    trace = _parsed(text)
    assert not trace.unread
    (call,) = trace.calls
    return call


def test_reads_a_call_with_its_descriptor_and_result() -> None:
    call = _only(
        '62  openat(AT_FDCWD</tmp/pf>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC)'
        " = 3</etc/ld.so.cache>"
    )
    assert (call.pid, call.name, call.succeeded, call.error) == (62, "openat", True, None)
    assert descriptor_path(call.arg(0)) == "/tmp/pf"  # noqa: S108 - text, not a path
    assert string(call.arg(1)) == "/etc/ld.so.cache"
    assert call.arg(2) == "O_RDONLY|O_CLOEXEC"
    assert descriptor_path(call.result) == "/etc/ld.so.cache"
    assert call.arg(9) == ""


def test_reads_failures() -> None:
    call = _only('7 mkdir("/x", 0777)      = -1 EROFS (Read-only file system)')
    assert (call.error, call.succeeded) == ("EROFS", False)


def test_unescapes_names_that_try_to_confuse_it() -> None:
    call = _only(
        r'9 openat(AT_FDCWD</a/s \74x\76\303\251\"q>, "/a/s <x>\303\251\"q, ) = 3/f\n",'
        r" O_WRONLY|O_CREAT, 0666) = 3</a/s \74x\76\303\251\"q, ) = 3/f\n>"
    )
    assert string(call.arg(1)) == '/a/s <x>é"q, ) = 3/f\n'
    assert descriptor_path(call.arg(0)) == '/a/s <x>é"q'
    assert descriptor_path(call.result) == '/a/s <x>é"q, ) = 3/f\n'
    assert call.arg(3) == "0666"


def test_keeps_bytes_that_are_not_utf8() -> None:
    assert string(r'"\377\x41\\n\t"') == "\udcffA\\n\t"


def test_reads_deleted_files_and_memory_files() -> None:
    assert descriptor_path("4</a/g>(deleted)") == "/a/g"
    assert descriptor_path("7</memfd:a>(deleted)") == "/memfd:a"
    assert descriptor_path("5<socket:[10881]>") == "socket:[10881]"
    assert descriptor_path("-1") is None
    assert descriptor_path("NULL") is None


def test_joins_interrupted_calls_of_several_threads() -> None:
    trace = _parsed("""
1 openat(AT_FDCWD</>, "/a", O_RDONLY <unfinished ...>
2 openat(AT_FDCWD</>, "/b", O_RDONLY <unfinished ...>
1 <... openat resumed>) = 3</a>
2 <... openat resumed>)                 = -1 ENOENT (No such file or directory)
1 +++ exited with 0 +++
""")
    assert [(c.pid, string(c.arg(1)), c.error) for c in trace.calls] == [
        (1, "/a", None),
        (2, "/b", "ENOENT"),
    ]
    assert trace.complete


def test_follows_an_exec_by_a_thread() -> None:
    trace = _parsed("""
6666 openat(AT_FDCWD</>, "/a", O_RDONLY) = 3</a>
6669 execve("/bin/true", ["true"], 0x7fff063803a8 /* 35 vars */ <pid changed to 6666 ...>
6666 +++ superseded by execve in pid 6669 +++
6666 <... execve resumed>)              = 0
6666 +++ exited with 0 +++
""")
    assert trace.calls[1].name == "execve"
    assert strings(trace.calls[1].arg(1)) == ("true",)
    assert trace.complete


def test_a_call_that_never_returned_is_still_a_call() -> None:
    trace = _parsed("""
1 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(1)}, 16 <unfinished ...>
1 +++ killed by SIGKILL +++
""")
    (call,) = trace.calls
    assert (call.name, call.result, call.succeeded, call.error) == ("connect", "?", False, None)
    assert trace.exits == {1: "killed by SIGKILL"}


def test_drops_mappings_that_are_not_executable() -> None:
    trace = _parsed("""
1 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|21<<MAP_HUGE_SHIFT, -1, 0) = 0x7f
1 mmap(NULL, 4096, PROT_READ|PROT_EXEC, MAP_SHARED|21<<MAP_HUGE_SHIFT, 4</a/b>, 0) = 0x7f
1 mprotect(0x7f, 4096, PROT_READ <unfinished ...>
1 +++ exited with 0 +++
""")
    (call,) = trace.calls
    assert descriptor_path(call.arg(4)) == "/a/b"


def test_a_line_that_cannot_be_read_makes_the_trace_incomplete() -> None:
    trace = _parsed("1 openat(AT_FDCWD</>, \n1 garbage\nstrace: oops\n1 +++ exited with 0 +++\n")
    assert len(trace.unread) == 3
    assert not trace.complete


def test_a_trace_without_an_end_is_incomplete() -> None:
    assert not _parsed('1 mkdir("/x", 0777) = 0').complete
    assert not Trace().complete


def test_finds_children_in_the_observers_numbering() -> None:
    clone3 = _only(
        "66 clone3({flags=CLONE_VM|CLONE_FS, child_tid=0x7fa9ada69990, stack_size=0x7fff80}"
        " => {parent_tid=[2 /* 6667 in strace's PID NS */]}, 88)"
        " = 2 /* 6667 in strace's PID NS */"
    )
    assert child_pid(clone3) == 6667
    assert child_pid(_only("6 vfork() = 3 /* 6668 in strace's PID NS */")) == 6668
    assert child_pid(_only("6 clone(child_stack=NULL, flags=SIGCHLD) = 6666")) == 6666
    assert child_pid(_only("6 fork() = -1 EAGAIN (Resource temporarily unavailable)")) is None


def test_working_directories_are_shared_by_threads_and_inherited_by_children() -> None:
    trace = _parsed("""
1 chdir("/a") = 0
1 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD} => {parent_tid=[2]}, 88) = 2
2 chdir("b") = 0
3 mkdir("early", 0777) = 0
1 vfork() = 3
1 chdir("/nope") = -1 ENOENT (No such file or directory)
1 fchdir(4</c>) = 0
3 mkdir("late", 0777) = 0
1 mkdir("x", 0777) = 0
""")
    processes = Processes(trace.calls)
    seen = []
    for call in trace.calls:
        if call.name == "mkdir":
            seen.append((call.pid, processes.folder(call.pid)))
        processes.observe(call)
    assert seen == [(3, "/a/b"), (3, "/a/b"), (1, "/c")]
    assert processes.folder(2) == "/c"
    assert processes.folder(99) is None
