# ruff: noqa: S108 - paths that a handler tries to open inside the sandbox
"""Real trees in real sandboxes: every negative control must be refuted by the event it makes."""

import base64
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.errors import ArtifactRefused, PackageInvalid
from lmi_compile.proof.prove import prove
from lmi_compile.proof.record import EventKind, Proof, parse

TreeMaker = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("watchable")


def _refuted(proof: Proof, kind: EventKind, says: str) -> None:
    assert proof.decision == "REFUTED", proof.line()
    found = [event.what for event in proof.events if event.kind == kind]
    assert any(says in what for what in found), proof.events
    assert proof.reasons
    assert proof.plain is None


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shared object with one function, `int answer(void)`, which returns 42."""
    folder = tmp_path_factory.mktemp("machine-code")
    source, built = folder / "k.c", folder / "k.so"
    source.write_text("int answer(void) { return 42; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", built, source], check=True)  # noqa: S607 - the machine's own
    return built.read_bytes()


# ------------------------------------------------------------- what must pass


def test_a_clean_handler_is_proven(make_tree: TreeMaker) -> None:
    tree = make_tree("answer = request['inputs'] + ' Paris'")
    proof = prove(tree, prompt="The capital is", timeout_seconds=60)
    assert proof.decision == "PROVEN", proof.line()
    assert (proof.events, proof.events_total, proof.reasons, proof.noted) == ((), 0, (), ())
    assert proof.response == '{"generated_text": "The capital is Paris"}'
    assert proof.djl_python == "stand-in"
    assert proof.observer is not None
    assert proof.observer.strace.startswith("strace -- version")
    assert {"mount", "network", "pid", "ipc"} <= set(proof.observer.namespaces)
    for timing in (proof.traced, proof.plain):
        assert timing is not None
        assert timing.seconds_to_ready is not None
        assert timing.seconds_to_first_token is not None
        assert 0 < timing.seconds_to_ready <= timing.seconds_to_first_token < timing.seconds
        assert timing.cpu_seconds_to_first_token is not None
        assert 0 < timing.cpu_seconds_to_first_token <= timing.cpu_seconds
    assert parse(proof.to_json()) == proof


def test_an_async_handler_is_proven_and_may_wait_for_a_thread(make_tree: TreeMaker) -> None:
    head = "import asyncio, concurrent.futures, threading"
    body = (
        "promise = concurrent.futures.Future()\n"
        "threading.Thread(target=promise.set_result, args=('Paris',)).start()\n"
        "answer = await asyncio.wrap_future(promise)"
    )
    proof = prove(_async(make_tree(body + FRAMED, head=head + FRAME)), timeout_seconds=60)
    assert proof.decision == "PROVEN", proof.line()
    assert proof.response == "Paris"


FRAME = """
import struct
def frame(**fields):
    data = struct.pack(">h", len(fields))
    for word in (word for field in fields.items() for word in field):
        data += struct.pack(">i", len(word.encode())) + word.encode()
    return Output().add(data)
"""
FRAMED = "\nreturn frame(data=answer, last='true')"


def _async(tree: Path) -> Path:
    model, properties = tree / "model.py", tree / "serving.properties"
    model.write_text(model.read_text().replace("def handle", "async def handle"))
    properties.write_text(properties.read_text().replace("async_mode=false", "async_mode=true"))
    return tree


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("answer = 'Paris'", "an async answer must be framed fields"),
        ("return frame(text='Paris', last='true')", "an async answer must be framed fields"),
        ("return frame(data='', last='true', code='400', error='too long')", "400: too long"),
    ],
)
def test_an_async_answer_that_the_container_cannot_read_proves_nothing(
    make_tree: TreeMaker, body: str, says: str
) -> None:
    proof = prove(_async(make_tree(body, head=FRAME)), timeout_seconds=60)
    assert proof.decision != "PROVEN"
    assert says in proof.line()


def test_the_tree_is_served_as_the_contract_says(make_tree: TreeMaker) -> None:
    head = (
        "import os, sys, pathlib\n"
        "runs = pathlib.Path(os.environ['TMPDIR'], 'runs')\n"
        "runs.write_text(runs.read_text() + 'x' if runs.exists() else 'x')\n"
        "FIRST = {}\n"
    )
    body = (
        "answer = {'runs': len(runs.read_text()), 'cwd': os.getcwd(), 'path0': sys.path[0],\n"
        "          'file': os.path.dirname(__file__), 'module': __name__, 'home': os.listdir(\n"
        "          os.environ['HOME']), 'path': os.listdir(os.environ['PATH']),\n"
        "          'original': os.listdir(ORIGINAL), 'first': FIRST,\n"
        "          'later': sorted(inputs.get_properties()), 'env': sorted(os.environ)}"
    )
    tree = make_tree(body, head=head)
    model = tree / "model.py"
    model.write_text(
        f"ORIGINAL = {str(tree)!r}\n"
        + model.read_text().replace(
            "        return None",
            "        FIRST.update(inputs.get_properties())\n        return None",
        )
    )
    proof = prove(tree, timeout_seconds=60)
    assert proof.decision == "PROVEN", proof.line()
    assert proof.response is not None
    said = json.loads(proof.response)["generated_text"]
    assert said["runs"] == 3
    assert said["cwd"] == said["path0"] == said["file"]
    assert said["cwd"] != str(tree)
    assert said["module"].startswith("model_")
    assert (said["home"], said["path"], said["original"]) == ([], [], [])
    assert said["first"]["rolling_batch"] == "disable"
    assert said["first"]["engine"] == "Python"
    assert said["first"]["device_id"] == "-1"
    assert "rolling_batch" not in said["later"]
    assert set(said["env"]) <= {
        *("HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONPATH", "TMPDIR"),
    }


def test_writing_to_the_scratch_folder_is_allowed(make_tree: TreeMaker) -> None:
    body = (
        "import tempfile, os\n"
        "with tempfile.TemporaryDirectory() as d:\n"
        "    os.chdir(d); open('x', 'w').write('1'); os.rename('x', 'y')\n"
        "    answer = open('y').read()\n"
    )
    assert prove(make_tree(body), timeout_seconds=60).decision == "PROVEN"


def test_a_streamed_answer_counts_from_its_first_chunk(make_tree: TreeMaker) -> None:
    body = (
        "import time, itertools\n"
        "def chunks():\n"
        "    yield 'a'\n"
        "    time.sleep(0.5)\n"
        "    yield 'b'\n"
        "return Output().add_stream_content(chunks(), lambda chunk: chunk + ';')"
    )
    proof = prove(make_tree(body), timeout_seconds=60)
    assert proof.decision == "PROVEN", proof.line()
    assert proof.response == "a;b;"
    assert proof.plain is not None
    assert proof.plain.seconds_to_first_token is not None
    assert proof.plain.seconds - proof.plain.seconds_to_first_token > 0.5


@pytest.mark.slow
def test_importing_torch_alone_is_no_event(make_tree: TreeMaker) -> None:
    body = "answer = str(torch.nn.functional.linear(torch.ones(2, 64), torch.ones(8, 64)).sum())"
    proof = prove(make_tree(body, head="import torch"), timeout_seconds=120)
    assert proof.decision == "PROVEN", proof.line()
    assert proof.events == ()


def test_a_copy_of_a_file_of_the_tree_may_be_loaded(
    make_tree: TreeMaker, machine_code: bytes
) -> None:
    body = (
        "import ctypes, os, shutil, zipfile\n"
        "target = os.environ['TMPDIR'] + '/k.so'\n"
        "if os.path.exists('k.so'): shutil.copy('k.so', target)\n"
        "else: open(target, 'wb').write(zipfile.ZipFile('k.pt2').read('data/k.so'))\n"
        "answer = ctypes.CDLL(target).answer()\n"
    )
    plain = make_tree(body, name="plain")
    (plain / "k.so").write_bytes(machine_code)
    packed = make_tree(body, name="packed")
    with zipfile.ZipFile(packed / "k.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/k.so", machine_code)
    for tree in (plain, packed):
        proof = prove(tree, timeout_seconds=60)
        assert proof.decision == "PROVEN", proof.line()
        assert proof.response == '{"generated_text": 42}'
        assert [event.kind for event in proof.noted] == ["tree-copy"]


# ------------------------------------------------------------- the negative controls


@pytest.mark.slow
def test_control_torch_compile_in_the_handler(make_tree: TreeMaker) -> None:
    body = "answer = float(torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(3)).sum())"
    proof = prove(make_tree(body, head="import torch"), timeout_seconds=240)
    _refuted(proof, "import", "torch._dynamo")
    _refuted(proof, "import", "torch._inductor")
    _refuted(proof, "compiler", "g++")


def test_control_gcc_by_absolute_path(make_tree: TreeMaker) -> None:
    body = (
        "import os, subprocess, ctypes\n"
        "scratch = os.environ['TMPDIR']\n"
        "open(scratch + '/k.c', 'w').write('int answer(void) { return 42; }')\n"
        "subprocess.run(['/usr/bin/gcc', '-shared', '-o', scratch + '/k.so', scratch + '/k.c'],\n"
        "               check=False)\n"
        "answer = 'done'\n"
    )
    proof = prove(make_tree(body), timeout_seconds=60)
    _refuted(proof, "compiler", "the compiler gcc, /usr/bin/gcc")
    assert any("-shared" in event.what for event in proof.events)


def test_control_gcc_under_another_name(make_tree: TreeMaker, tmp_path: Path) -> None:
    link = tmp_path / "harmless"
    link.symlink_to("/usr/bin/gcc")
    body = f"import subprocess; subprocess.run([{str(link)!r}, '-v']); answer = 1"
    _refuted(prove(make_tree(body), timeout_seconds=60), "compiler", f"gcc, {link}")


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "::1"])
def test_control_a_connection(make_tree: TreeMaker, host: str) -> None:
    body = (
        "import socket\n"
        f"family = socket.AF_INET6 if ':' in {host!r} else socket.AF_INET\n"
        "try:\n"
        f"    socket.socket(family).connect(({host!r}, 443))\n"
        "except OSError as error:\n"
        "    answer = str(error)\n"
    )
    proof = prove(make_tree(body), timeout_seconds=60)
    _refuted(proof, "network", f"tries to connect to {host} port 443")


def test_control_a_write_to_home(make_tree: TreeMaker) -> None:
    body = (
        "import pathlib\n"
        "try: pathlib.Path.home().joinpath('.cache').mkdir()\n"
        "except OSError as error: answer = str(error)\n"
    )
    proof = prove(make_tree(body), timeout_seconds=60)
    _refuted(proof, "write", "/home/.cache (mkdir)")
    assert proof.response is not None
    assert "Read-only file system" in proof.response


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("k.so", "executable-file"),
        ("k.so", "executable-mapping"),
        ("renamed", "executable-file"),
        ("unlinked", "executable-mapping"),
        ("memory", "executable-mapping"),
    ],
)
def test_control_machine_code_made_at_start(
    make_tree: TreeMaker, machine_code: bytes, how: str, kind: EventKind
) -> None:
    load = {
        "k.so": "answer = ctypes.CDLL(put('k.so')).answer()",
        "renamed": "os.rename(put('a.tmp'), put('b.bin')); answer = 1",
        "unlinked": "p = put('x'); answer = ctypes.CDLL(p).answer(); os.unlink(p)",
        "memory": (
            "fd = os.memfd_create('k'); os.write(fd, CODE)\n"
            "answer = ctypes.CDLL(f'/proc/self/fd/{fd}').answer()"
        ),
    }
    head = (
        "import base64, ctypes, os\n"
        f"CODE = base64.b64decode({base64.b64encode(machine_code).decode()!r})\n"
        "def put(name):\n"
        "    path = os.path.join(os.environ['TMPDIR'], name)\n"
        "    with open(path, 'wb') as file: file.write(CODE)\n"
        "    return path\n"
    )
    proof = prove(make_tree(load[how], head=head), timeout_seconds=60)
    _refuted(proof, kind, "")
    assert not any("did not answer" in reason for reason in proof.reasons)


@pytest.mark.slow
def test_control_an_import_of_inductor(make_tree: TreeMaker) -> None:
    proof = prove(make_tree("import torch._inductor; answer = 1"), timeout_seconds=120)
    _refuted(proof, "import", "torch._inductor")


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ("open('model.py', 'a')", "write", "/tree/model.py"),
        ("open('/tmp/x', 'w')", "write", "/tmp/x"),
        ("open('/dev/shm/x', 'w')", "write", "/dev/shm/x"),
        ("os.chdir('/'); os.mkdir('x')", "write", "/x (mkdir)"),
        ("os.symlink('/tmp', T + '/l'); open(T + '/l/x', 'w')", "write", "/scratch/l/x"),
        ("os.execv('/bin/true', ['true'])", "foreign-program", "/bin/true"),
        ("os.system('true')", "foreign-program", "/bin/sh"),
        ("subprocess.run(['ninja'])", "compiler", "tries to execute the compiler ninja"),
        ("ctypes.CDLL(None).unshare(0x20000)", "escape", "unshare"),
        ("ctypes.CDLL(None).mount(b'x', b'/', None, 32, None)", "escape", "mount"),
        ("open('/proc/sys/kernel/hostname', 'w')", "write", "/proc/sys/kernel/hostname"),
    ],
)
def test_other_ways_out(make_tree: TreeMaker, body: str, kind: EventKind, says: str) -> None:
    tree = make_tree(
        f"answer = 1\n{body}", head="import ctypes, os, subprocess\nT = os.environ['TMPDIR']"
    )
    _refuted(prove(tree, timeout_seconds=60), kind, says)


# ------------------------------------------------------------- trees that do not answer


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import os; os._exit(3)", "ready, but ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "ready, but ended with exit code 137"),
        ("import ctypes; ctypes.string_at(0)", "ready, but ended with exit code 139"),
        ("raise SystemExit(0)", "raised SystemExit"),
        ("raise ValueError('no such weights')", "raised ValueError: no such weights"),
        ("return Output().error('too long')", "code 424"),
        ("return None", "answered with NoneType, not with an Output"),
        ("return {'generated_text': 'x'}", "answered with dict"),
        ("return Output().add('')", "the answer is empty"),
    ],
)
def test_a_tree_that_does_not_answer_is_refuted(make_tree: TreeMaker, body: str, says: str) -> None:
    proof = prove(make_tree(body), timeout_seconds=60)
    assert proof.decision == "REFUTED"
    assert says in proof.reasons[-1], proof.reasons
    assert proof.events == ()


def test_a_tree_that_cannot_be_loaded_is_refuted(make_tree: TreeMaker) -> None:
    tree = make_tree()
    (tree / "model.py").unlink()
    assert prove(tree).reasons == ("it did not answer: entry-point file not found: model.py",)
    (tree / "model.py").write_text("import nothing_like_this\n")
    assert "ModuleNotFoundError" in prove(tree).reasons[0]
    (tree / "model.py").write_text("def handel(inputs): ...\n")
    assert "has no function handle" in prove(tree).reasons[0]


def test_an_initialisation_that_fails_is_named(make_tree: TreeMaker) -> None:
    tree = make_tree()
    (tree / "model.py").write_text(
        "from djl_python import Output\n"
        "def handle(inputs): return Output().error('torch 2.13.0 is needed', code=507)\n"
    )
    (reason,) = prove(tree).reasons
    assert "the first, empty request was answered with code 507" in reason
    assert "torch 2.13.0 is needed" in reason


def test_properties_nobody_can_read_are_the_packages_fault(make_tree: TreeMaker) -> None:
    tree = make_tree()
    (tree / "serving.properties").write_text("engine=\\u12\n")
    with pytest.raises(PackageInvalid):
        prove(tree)


def test_a_folder_that_is_not_there_is_refused_as_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="no such folder"):
        prove(tmp_path / "nope")


def test_a_second_run_that_fails_is_refuted(make_tree: TreeMaker) -> None:
    body = "if request['parameters']['max_new_tokens'] == 1: raise ValueError('one')\nanswer = 1"
    proof = prove(make_tree(body), timeout_seconds=60)
    assert proof.decision == "REFUTED"
    assert "in a second, plain run it did not answer" in proof.reasons[0]


_MARKER = "mark = os.path.join(os.environ['TMPDIR'], 'mark')\n"


@pytest.mark.parametrize(
    "body",
    [
        # a second start over what the first one left
        _MARKER + "os.path.exists(mark) and os._exit(3)\nopen(mark, 'w').close()",
        # the path of its first start, remembered
        _MARKER + "there = os.path.abspath(__file__)\n"
        "if os.path.exists(mark): os.stat(open(mark).read())\n"
        "open(mark, 'w').write(there)",
        # root, or a name in the list of users
        "assert os.getuid() == 0",
        "import getpass\nassert getpass.getuser() == 'root'",
        # a home that is root's
        "assert os.access(os.path.expanduser('~root'), os.W_OK) or os.getuid() == 0",
    ],
)
def test_what_only_starts_once_or_here_or_as_this_user_is_refuted(
    make_tree: TreeMaker, body: str
) -> None:
    if "mark" not in body and os.geteuid():
        pytest.skip("another user id can be had by real root only")
    proof = prove(make_tree(f"{body}\nanswer = 'Paris'", head="import os"), timeout_seconds=60)
    assert proof.decision == "REFUTED", proof.line()
    assert "over what that run left in its scratch folder" in proof.reasons[0]


def test_a_stranger_may_write_to_the_scratch_folder_it_is_given(make_tree: TreeMaker) -> None:
    body = (
        _MARKER + "open(mark, 'a').write('x')\n"
        "os.makedirs(mark + '.d', exist_ok=True)\nopen(mark + '.d/x', 'a').close()\n"
        "answer = os.getuid()"
    )
    proof = prove(make_tree(body, head="import os"), timeout_seconds=60)
    assert proof.decision == "PROVEN", proof.line()
    assert any("another path" in sentence for sentence in proof.checked)
