# ruff: noqa: S108 - paths in the text of traces; none is opened
"""What counts as an event."""

import pytest

from lmi_compile.proof import tables
from lmi_compile.proof.policy import Bounds, Findings, ScratchFile, judge
from lmi_compile.proof.trace import parse

_BOUNDS = Bounds(scratch="/p/scratch", program="--run=p")
_START = """
1 mount("/t", "/p/tree", NULL, MS_BIND, NULL) = 0
1 chdir("/p/tree") = 0
1 execve("/usr/bin/python3", ["python3", "-P", "driver.py", "{\\"argv\\": [\\"--run=p\\"]}", "--run=p"], 0x7f /* 6 vars */) = 0
"""  # noqa: E501 - one line of a trace
_LINKS = {"/usr/bin/cc": "/usr/bin/x86_64-linux-gnu-gcc-12", "/opt/tool": "/usr/bin/ptxas"}


def _judged(*lines: str, left: dict[str, ScratchFile] | None = None) -> Findings:
    text = _START.strip().splitlines() + [f"1 {line}" for line in lines]
    trace = parse(text)
    assert not trace.unread
    return judge(trace.calls, _BOUNDS, left=left or {}, resolve=lambda path: _LINKS.get(path, path))


def _event(*lines: str, left: dict[str, ScratchFile] | None = None) -> tuple[str, str]:
    findings = _judged(*lines, left=left)
    (event,) = findings.events
    return event.kind, event.path


def _clean(*lines: str) -> None:
    findings = _judged(*lines)
    assert findings.started
    assert findings.events == ()
    assert findings.noted == ()


def test_setting_up_is_no_event() -> None:
    _clean()


def test_without_the_programs_own_exec_nothing_was_seen() -> None:
    trace = parse(['1 execve("/bin/python3", ["python3", "--run=other"], 0x7f) = 0'])
    assert not judge(trace.calls, _BOUNDS, left={}, resolve=str).started


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("/usr/bin/gcc", "compiler", "gcc"),
        ("/usr/bin/cc", "compiler", "/usr/bin/x86_64-linux-gnu-gcc-12"),
        ("/opt/tool", "compiler", "ptxas"),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", "compiler", "cc1plus"),
        ("/usr/bin/clang++-17", "compiler", "clang++"),
        ("/usr/bin/aarch64-linux-gnu-ld.bfd", "compiler", "ld.bfd"),
        ("/opt/aws/neuron/bin/neuronx-cc", "compiler", "neuronx-cc"),
        ("/usr/local/bin/trtllm-build", "compiler", "trtllm-build"),
        ("/bin/sh", "foreign-program", "/bin/sh"),
        ("/usr/bin/python3", "foreign-program", "/usr/bin/python3"),
        ("/usr/bin/ccache-swig-x", "foreign-program", "ccache-swig-x"),
    ],
)
def test_every_exec_is_an_event(path: str, kind: str, says: str) -> None:
    (event,) = _judged(f'execve("{path}", ["x", "-shared"], 0x7f) = 0').events
    assert (event.kind, event.path) == (kind, path)
    assert says in event.what
    assert "-shared" in event.what


def test_an_exec_that_failed_or_went_by_descriptor_is_one_too() -> None:
    assert _event('execve("/e/g++", ["g++"], 0x7f) = -1 ENOENT (No such file)') == (
        "compiler",
        "/e/g++",
    )
    assert _event('execveat(3</usr/bin/as>, "", ["as"], 0x7f, AT_EMPTY_PATH) = 0') == (
        "compiler",
        "/usr/bin/as",
    )


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('openat(AT_FDCWD</p/tree>, "/h/x", O_WRONLY|O_CREAT, 0666) = 3</h/x>', "/h/x"),
        ('openat(AT_FDCWD</p/tree>, "/h/x", O_RDWR) = -1 EROFS (Read-only)', "/h/x"),
        ('openat(AT_FDCWD</p/tree>, "x", O_RDWR) = -1 EACCES (Denied)', "/p/tree/x"),
        ('openat(4</h>, "a/../x", O_WRONLY) = -1 ENOENT (No)', "/h/x"),
        ('openat2(4</h>, "x", {flags=O_RDWR|O_CREAT, mode=0600}, 24) = 5</h/x>', "/h/x"),
        ('open("x", O_RDWR) = -1 EROFS (Read-only)', "/p/tree/x"),
        ('creat("/h/x", 0666) = -1 EROFS (Read-only)', "/h/x"),
        ('mkdir("/h/d", 0777) = -1 EEXIST (File exists)', "/h/d"),
        ('unlinkat(AT_FDCWD</p/tree>, "/h/x", 0) = -1 EROFS (Read-only)', "/h/x"),
        ('rename("/p/scratch/x", "/h/x") = -1 EXDEV (Cross-device)', "/h/x"),
        ('linkat(3</h>, "a", 4</h>, "b", 0) = -1 EROFS (Read-only)', "/h/b"),
        ('symlinkat("/p/scratch/x", AT_FDCWD</p/tree>, "l") = -1 EROFS (Read-only)', "/p/tree/l"),
        ('chmod("/h/x", 0755) = -1 EROFS (Read-only)', "/h/x"),
        ("fchmod(3</h/x>, 0755) = -1 EROFS (Read-only)", "/h/x"),
        ("fchmod(3, 0755) = -1 EROFS (Read-only)", "an unknown file"),
        ("utimensat(3</h/x>, NULL, NULL, 0) = -1 EROFS (Read-only)", "/h/x"),
        ('truncate("/h/x", 0) = -1 EROFS (Read-only)', "/h/x"),
        ('openat(AT_FDCWD</p/tree>, "/dev/shm/s", O_RDWR|O_CREAT, 0600) = 3</dev/shm/s>',
         "/dev/shm/s"),
        ('openat(AT_FDCWD</p/tree>, "/p/scratch2/x", O_RDWR) = -1 ENOENT (No)', "/p/scratch2/x"),
        ('openat(AT_FDCWD</p/tree>, "/p/scratch/../h/x", O_RDWR) = -1 ENOENT (No)', "/p/h/x"),
        # Through a link that leads outside: the kernel's own answer shows it.
        ('openat(AT_FDCWD</p/tree>, "/p/scratch/l/x", O_RDWR) = -1 EROFS (Read)', "/p/scratch/l/x"),
        ('openat(AT_FDCWD</p/tree>, "/p/scratch/l/x", O_RDWR) = 3</h/x>', "/h/x"),
    ],
)  # fmt: skip
def test_a_change_outside_the_scratch_folder_is_an_event(line: str, path: str) -> None:
    assert _event(line) == ("write", path)


def test_both_ends_of_a_rename_count() -> None:
    findings = _judged('renameat2(3</h>, "a", 3</h>, "b", 0) = -1 EROFS (Read-only)')
    assert [event.path for event in findings.events] == ["/h/a", "/h/b"]


@pytest.mark.parametrize(
    "line",
    [
        'openat(AT_FDCWD</p/tree>, "/p/scratch/x", O_RDWR|O_CREAT, 0600) = 3</p/scratch/x>',
        'openat(AT_FDCWD</p/scratch>, "x", O_RDWR|O_CREAT, 0600) = 3</p/scratch/x>',
        'openat(AT_FDCWD</p>, "scratch", O_RDWR|O_TMPFILE, 0600) = 3</p/scratch/#21>(deleted)',
        'mkdir("/p/scratch/d", 0777) = 0',
        'unlink("/p/scratch/gone.so") = -1 ENOENT (No such file or directory)',
        'openat(AT_FDCWD</p/tree>, "/dev/null", O_RDWR) = 3</dev/null>',
        'openat(AT_FDCWD</p/tree>, "/dev/urandom", O_RDWR) = 3</dev/urandom>',
        'openat(AT_FDCWD</p/tree>, "/proc/self/task/9/comm", O_RDWR) = 3</proc/2/task/9/comm>',
        'openat(AT_FDCWD</p/tree>, "/proc/self/fd/1", O_WRONLY) = 3<pipe:[12]>',
        'openat(AT_FDCWD</p/tree>, "/usr/lib/x.so", O_RDONLY) = 3</usr/lib/x.so>',
        "mmap(NULL, 9, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3</usr/lib/x.so>, 0) = 0x7f",
        "fchmod(3<socket:[1]>, 0700) = 0",
        "bind(3<socket:[1]>, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 0",
        'sendto(3<socket:[1]>, "..", 20, 0, {sa_family=AF_NETLINK, nl_pid=0}, 12) = 20',
        'sendto(3<socket:[1]>, "x", 1, 0, NULL, 0) = 1',
        "connect(3<socket:[1]>, {sa_family=AF_UNSPEC}, 16) = 0",
    ],
)
def test_what_keeps_nothing_is_no_event(line: str) -> None:
    _clean(line)


def test_relative_paths_follow_the_working_directory() -> None:
    _clean('chdir("/p/scratch") = 0', 'mkdir("d", 0777) = 0')
    assert _event('chdir("/p/scratch") = 0', 'chdir("..") = 0', 'mkdir("d", 0777) = 0') == (
        "write",
        "/p/d",
    )


def test_repeats_are_counted_not_listed() -> None:
    line = 'openat(AT_FDCWD</p/tree>, "/h/x", O_WRONLY) = -1 EROFS (Read-only file system)'
    (event,) = _judged(line, line, line).events
    assert event.times == 3


@pytest.mark.parametrize("suffix", [".so", ".so.1.2", ".o", ".cubin", ".neff", ".ptx"])
def test_machine_code_that_was_gone_at_the_end_counts_by_its_name(suffix: str) -> None:
    path = f"/p/scratch/k{suffix}"
    line = f'openat(AT_FDCWD</p/tree>, "{path}", O_RDWR|O_CREAT, 0600) = 3<{path}>'
    assert _event(line) == ("executable-file", path)
    assert _event(f'rename("/p/scratch/t", "{path}") = 0') == ("executable-file", path)


def test_machine_code_that_is_left_counts_once_unless_the_tree_has_it() -> None:
    path = "/p/scratch/k.so"
    line = f'openat(AT_FDCWD</p/tree>, "{path}", O_RDWR|O_CREAT, 0600) = 3<{path}>'
    load = f"mmap(NULL, 9, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3<{path}>, 0) = 0x7f"
    new = ScratchFile(why="an ELF file", in_tree=False)
    assert _event(line, left={path: new}) == ("executable-file", path)
    assert _event(left={"/p/scratch/odd": new}) == ("executable-file", "/p/scratch/odd")
    kinds = {event.kind for event in _judged(line, load, left={path: new}).events}
    assert kinds == {"executable-file", "executable-mapping"}
    copied = _judged(line, load, left={path: ScratchFile(why="an ELF file", in_tree=True)})
    assert copied.events == ()
    assert [event.kind for event in copied.noted] == ["tree-copy"]


def test_machine_code_loaded_from_scratch_or_memory_is_an_event() -> None:
    gone = "mmap(NULL, 9, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3</p/scratch/x>(deleted), 0) = 0x7f"
    assert _event(gone) == ("executable-mapping", "/p/scratch/x")
    memory = "mmap(NULL, 9, PROT_READ|PROT_EXEC, MAP_SHARED, 3</memfd:k>(deleted), 0) = 0x7f"
    assert _event(memory) == ("executable-mapping", "/memfd:k")


def test_code_generated_in_memory_is_noted() -> None:
    findings = _judged(
        "mmap(NULL, 9, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f",
        "mprotect(0x7f0000, 4096, PROT_READ|PROT_EXEC) = 0",
    )
    assert findings.events == ()
    assert [(event.kind, event.path) for event in findings.noted] == [
        ("executable-memory", "mmap"),
        ("executable-memory", "mprotect"),
    ]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (('connect(5<socket:[1]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr('
         '"127.0.0.1")}, 16) = -1 ENETUNREACH (Network is unreachable)'), "127.0.0.1 port 80"),
        (('connect(5<socket:[1]>, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0),'
         ' inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0'), "::1 port 9"),
        (('sendto(5<socket:[1]>, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), '
         'sin_addr=inet_addr("192.0.2.1")}, 16) = 1'), "192.0.2.1 port 53"),
        (('sendmsg(5<socket:[1]>, {msg_name={sa_family=AF_INET, sin_port=htons(53), '
         'sin_addr=inet_addr("192.0.2.1")}, msg_namelen=16, msg_iov=[{iov_base="x", iov_len=1}], '
         "msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 1"), "192.0.2.1 port 53"),
        ('connect(5<socket:[1]>, {sa_family=AF_UNIX, sun_path=@"abs"}, 6) = 0', "@abs"),
        ("connect(5<socket:[1]>, {sa_family=AF_VSOCK, svm_cid=2}, 16) = 0",
         "AF_VSOCK {sa_family=AF_VSOCK, svm_cid=2}"),
    ],
)  # fmt: skip
def test_every_connection_is_an_event(line: str, where: str) -> None:
    assert _event(line) == ("network", where)


def test_socket_files_and_listening_are_noted() -> None:
    findings = _judged(
        'connect(5<socket:[1]>, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1 '
        "ENOENT (No such file or directory)",
        'bind(5<socket:[1]>, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}'
        ", 16) = 0",
    )
    assert findings.events == ()
    assert [event.path for event in findings.noted] == ["/run/nscd/socket", "bind 0.0.0.0 port 0"]


@pytest.mark.parametrize("name", sorted(tables.ESCAPES))
def test_what_changes_the_sandbox_is_an_event(name: str) -> None:
    assert _event(f"{name}(0) = -1 EPERM (Operation not permitted)") == ("escape", name)


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("/v/lib/python3.11/site-packages/torch/_inductor/__init__.py", "torch._inductor"),
        ("/v/site-packages/torch/_inductor/a/__pycache__/b.cpython-311.pyc", "torch._inductor"),
        ("/v/site-packages/torch/_dynamo/__pycache__/x.cpython-311.pyc", "torch._dynamo"),
        ("/v/dist-packages/triton/_C/libtriton.so", "triton"),
        ("/src/transformers/src/transformers/__init__.py", "transformers"),
        ("/p/tree/triton/__init__.py", "triton"),
        ("/v/site-packages/torch/_library/__pycache__/triton.cpython-311.pyc", None),
        ("/v/site-packages/optimum/transformers/x.py", None),
        ("/v/site-packages/transformers-5.23.0.dist-info/entry_points.txt", None),
        ("/v/site-packages/transformers/py.typed", None),
        ("/v/site-packages/torch/__init__.py", None),
    ],
)
def test_compiling_packages_are_known_by_their_files(path: str, package: str | None) -> None:
    line = f'openat(AT_FDCWD</p/tree>, "{path}", O_RDONLY|O_CLOEXEC) = 3<{path}>'
    if package is None:
        _clean(line)
    else:
        assert _event(line) == ("import", package)


def test_a_module_that_is_not_there_was_not_imported() -> None:
    path = "/v/site-packages/triton/__init__.py"
    _clean(f'openat(AT_FDCWD</p/tree>, "{path}", O_RDONLY) = -1 ENOENT (No such file)')


def test_names_that_are_not_utf8_can_still_be_written_down() -> None:
    (event,) = _judged(r'mkdir("/h/\377", 0777) = -1 EROFS (Read-only file system)').events
    assert event.path.encode("utf-8") == b"/h/\\udcff"
