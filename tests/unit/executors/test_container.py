"""Steps in real containers: what they see, what they may take, how they end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from dockerd import Engine, host_mounts
from ociregistry import OciRegistry, missing, oci_registry

from lmi_compile.errors import CompileError, EnvironmentFault, Interrupted, ToolFailed, Transient
from lmi_compile.events import Event, Note
from lmi_compile.executors.container import Containers
from lmi_compile.executors.container_place import Limits
from lmi_compile.step import Argv, Call, Resources, Step
from lmi_compile.workspace import Staging
from lmi_recipes.toolchain import Image

IMAGE = "lmi-test/host:latest"
_LOOK = """
import json, os, socket, sys
def write(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
    return "written"
def capabilities():
    return [x.split()[1] for x in open("/proc/self/status") if x.startswith("CapEff")][0]
given, hidden, out = sys.argv[1:]
shm = os.statvfs("/dev/shm")
report = {
    "uid": os.getuid(),
    "given": open(given + "/weights").read(),
    "write_given": write(given + "/x"),
    "write_root": write("/x"),
    "hidden": os.path.exists(hidden),
    "nets": os.listdir("/sys/class/net"),
    "capabilities": capabilities(),
    "shm": shm.f_blocks * shm.f_frsize,
    "scratch": write("/tmp/x"),
    "tmp": write(os.environ["TMPDIR"] + "/x"),
    "secret": os.environ.get("SECRET_TOKEN"),
    "home": os.environ["HOME"],
}
open(out + "/report.json", "w").write(json.dumps(report))
print(json.dumps(report))
"""


def python(code: str, *arguments: str, **more: Any) -> Step:
    argv = ("python3", "-c", code, *arguments)
    return Step(name="tool", run=Argv(argv=argv), where="toolchain", **more)


def say(lines: list[str]) -> Callable[[str], None]:
    return lines.append


def test_a_step_sees_its_inputs_and_writes_its_output_and_nothing_else(
    containers: Containers,
    staging: Staging,
    image_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, hidden = tmp_path / "given", tmp_path / "hidden"
    given.mkdir()
    (given / "weights").write_text("7")
    (given / "weights").chmod(0o600)
    hidden.write_text("not an input")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    step = python(_LOOK, "{in:model}", str(hidden), "{out}", outputs=("report.json",))
    ran = containers(step, {"model": given}, staging, lambda _: None)
    report = json.loads((staging.out / "report.json").read_text())
    assert report == {
        "uid": 65534 if os.getuid() == 0 else os.getuid(),
        "given": "7",
        "write_given": "Read-only file system",
        "write_root": "Read-only file system",
        "hidden": False,
        "nets": ["lo"],
        "capabilities": "0" * 16,
        "shm": 1 << 30,
        "scratch": "written",
        "tmp": "written",
        "secret": None,
        "home": str(staging.tmp),
    }
    assert ran == {"executor": "container", "image": image_id, "digests": [image_id]}
    assert (staging.out / "report.json").stat().st_uid == os.getuid()


def test_lines_arrive_while_it_runs(containers: Containers, staging: Staging) -> None:
    code = (
        "import os, sys, time; print('one', flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.05)\n"
        "print('two')"
    )
    seen: list[str] = []

    def heard(line: str) -> None:
        seen.append(line)
        (staging.out / "heard").touch()

    containers(python(code, "{out}/heard"), {}, staging, heard)
    assert seen == ["one", "two"]
    assert staging.log.read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        (python("print('cause'); raise SystemExit(3)"), ToolFailed, "exit 3"),
        (python("raise SystemExit(75)"), Transient, "exit 75"),
        (python("raise SystemExit(70)", retry=(70,)), ToolFailed, "exit 70"),
        (
            python("x = b'1' * (300 << 20)", resources=Resources(memory_bytes=100 << 20)),
            ToolFailed,
            r"ran out of memory: its limit of 0\.10 GiB \(exit 137\)",
        ),
        (
            python("import time; time.sleep(600)", resources=Resources(timeout_seconds=1.0)),
            ToolFailed,
            "ended after 1 s",
        ),
        (python("pass", outputs=("engine.bin",)), ToolFailed, r"did not write engine\.bin"),
        (
            Step(name="tool", run=Argv(argv=("no-such-tool",)), where="toolchain"),
            EnvironmentFault,
            "its program is not in the image",
        ),
        (
            python("pass", resources=Resources(accelerator="A10G", accelerator_count=1)),
            EnvironmentFault,
            "needs a GPU and the container engine has no NVIDIA runtime",
        ),
        (
            python("pass", resources=Resources(accelerator="inf2", accelerator_count=2)),
            EnvironmentFault,
            "needs 2 NeuronCores of inf2",
        ),
    ],
)
def test_every_end_is_explained(
    step: Step, kind: type[CompileError], words: str, containers: Containers, staging: Staging
) -> None:
    with pytest.raises(kind, match=words):
        containers(step, {}, staging, lambda _: None)


def test_processes_are_limited(engine: Engine, containers: Containers, staging: Staging) -> None:
    few = Containers(image=containers.image, mounts=containers.mounts, limits=Limits(processes=8))
    code = "import os, time\nfor _ in range(20):\n    os.fork() or (time.sleep(600), os._exit(0))"
    with pytest.raises(ToolFailed) as caught:
        few(python(code), {}, staging, lambda _: None)
    assert "Resource temporarily unavailable" in caught.value.why
    few._client.close()
    assert engine.names() == []


def test_cores_are_a_quota(containers: Containers, staging: Staging) -> None:
    step = python(
        "print(open('/sys/fs/cgroup/cpu/cpu.cfs_quota_us').read()"
        " if __import__('os').path.exists('/sys/fs/cgroup/cpu')"
        " else open('/sys/fs/cgroup/cpu.max').read())",
        resources=Resources(cores=1),
    )
    lines: list[str] = []
    containers(step, {}, staging, say(lines))
    assert lines[0].startswith("100000")


def test_a_call_runs_the_same_code_or_says_that_it_is_another(
    containers: Containers, staging: Staging
) -> None:
    call = Call(function="lmi_compile.backends.null.work:model", params={"id": "x"})
    step = Step(name="model", run=call, where="toolchain", outputs=("model.json",))
    containers(step, {}, staging, lambda _: None)
    assert json.loads((staging.out / "model.json").read_text()) == {"id": "x"}


def test_another_library_than_the_plan_knows_is_refused(
    containers: Containers, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmi_compile.place.installed_version", lambda _: "0.0.1")
    call = Call(function="lmi_compile.backends.null.work:model", params={"id": "x"})
    step = Step(name="model", run=call, where="toolchain", identity={"PyYAML": "6.0.3"})
    with pytest.raises(EnvironmentFault, match=r"this place has PyYAML \S+, not 0\.0\.1"):
        containers(step, {}, staging, lambda _: None)


def test_in_a_toolchains_own_image_its_pins_hold_and_not_this_machines_versions(
    containers: Containers, staging: Staging, image_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image has this machine's torch, which a toolchain for another one must not take."""
    monkeypatch.setattr("lmi_compile.place.installed_version", lambda _: "0.0.1")
    call = Call(function="lmi_compile.backends.null.work:model", params={"id": "x"})
    own = Image(reference=IMAGE, digest=image_id)
    pinned = {"versions": {"torch": "2.7.1", "compiler": "host"}}
    step = Step(name="model", run=call, where="toolchain", identity=pinned, image=own)
    with pytest.raises(EnvironmentFault, match=r"this place has torch \S+, not 2\.7\.1"):
        containers(step, {}, staging, lambda _: None)
    here = {"versions": {"torch": version("torch").partition("+")[0]}}
    containers(replace(step, identity=here), {}, staging, lambda _: None)
    assert json.loads((staging.out / "model.json").read_text()) == {"id": "x"}


def test_an_image_must_be_here_and_be_the_pinned_one(
    engine: Engine,
    image_id: str,
    staging: Staging,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    other = f"sha256:{'1' * 64}"
    step = python("pass", image=Image(reference="lmi-test/none:1", digest=other))
    for image, own, words in (
        (None, step.image, f"image lmi-test/none@{other} is not on this machine"),
        (None, Image(reference=IMAGE, digest=other), "is here as sha256:"),
        (None, None, "its toolchain names no image"),
        (f"{IMAGE}@{image_id}", step.image, "not the image that the toolchain pins"),
    ):
        executor = Containers(image=image)
        with pytest.raises(EnvironmentFault, match=words):
            executor(replace(step, image=own), {}, staging, lambda _: None)
        if executor._client:
            executor._client.close()
    assert engine.names() == []


def test_an_unpinned_image_is_said_to_be_one(
    containers: Containers, staging: Staging, image_id: str
) -> None:
    events: list[Event] = []
    executor = Containers(mounts=containers.mounts, emit=events.append)
    executor(python("pass", image=Image(reference=IMAGE)), {}, staging, lambda _: None)
    executor._client.close()
    assert events == [Note(text=f"image {IMAGE} is unpinned; it is {image_id}")]


def test_a_toolchain_that_needs_root_gets_it_without_capabilities(
    containers: Containers, staging: Staging, image_id: str
) -> None:
    code = "import os; print(os.getuid())"
    image = Image(reference=IMAGE, digest=image_id, root=True)
    lines: list[str] = []
    containers(python(code, image=image), {}, staging, say(lines))
    assert lines == ["0"]


def test_no_engine_is_said(monkeypatch: pytest.MonkeyPatch, staging: Staging) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{staging.root}/nothing")
    with pytest.raises(EnvironmentFault, match="no container engine answers") as caught:
        Containers(image=IMAGE)(python("pass"), {}, staging, lambda _: None)
    assert "DOCKER_HOST" in caught.value.fix


def test_a_socket_that_this_user_may_not_use_is_said(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root for a container engine")
    path = f"/tmp/lmi-{os.getpid()}.sock"  # noqa: S108 - a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        os.chmod(path, 0o600)  # noqa: PTH101 - a socket
        report = tmp_path / "report"
        report.touch()
        report.chmod(0o666)
        child = os.fork()
        if child == 0:
            _ask_as_nobody(path, report)
        os.waitpid(child, 0)
    os.unlink(path)  # noqa: PTH108 - as above
    assert "may not use the container engine's socket" in report.read_text()


def _ask_as_nobody(path: str, report: Path) -> None:
    os.chdir("/")
    with report.open("w") as out:
        os.setgroups([])
        os.setuid(65534)
        os.environ["DOCKER_HOST"] = f"unix://{path}"
        try:
            Containers(image=IMAGE)._image_of(python("pass"))
        except CompileError as error:
            out.write(f"{error}\n{error.fix}")
        finally:
            out.flush()
            os._exit(0)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # docker's log stream
def test_another_thread_can_end_it(containers: Containers, staging: Staging) -> None:
    def cancel(line: str) -> None:
        assert line == "up"
        threading.Thread(target=containers.running.cancel).start()

    code = "print('up', flush=True); import time; time.sleep(600)"
    with pytest.raises(Interrupted, match="step tool was ended"):
        containers(python(code), {}, staging, cancel)
    with pytest.raises(Interrupted):
        containers(python(code), {}, staging, cancel)


_DRIVER = """
import sys
from pathlib import Path
from lmi_compile.executors.container import Containers
from lmi_compile.step import Argv, Step
from lmi_compile.workspace import Workspace
code = "print('up', flush=True); import time; time.sleep(600)"
step = Step(name="tool", run=Argv(argv=("python3", "-c", code)), where="toolchain")
executor = Containers(image=sys.argv[1], mounts=tuple(map(Path, sys.argv[3:])))
staging = Workspace(Path(sys.argv[2])).stage("b" * 64)
executor(step, {}, staging, lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_container_ends_with_whoever_started_it(
    number: signal.Signals, engine: Engine, image_id: str, tmp_path: Path
) -> None:
    mounts = [str(path) for path in host_mounts()]
    process = subprocess.Popen(
        ["/usr/bin/env", "--default-signal=INT", sys.executable, "-c", _DRIVER,
         f"{IMAGE}@{image_id}", str(tmp_path), *mounts],
        env={**os.environ, "DOCKER_HOST": engine.url},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert len(engine.names()) == 1
    os.kill(process.pid, number)
    process.wait(120)
    process.stdout.close()
    until = time.monotonic() + 60
    while engine.names() and time.monotonic() < until:
        time.sleep(0.05)
    assert engine.names() == []


@pytest.fixture(scope="module")
def oci() -> Iterator[OciRegistry]:
    why = missing()
    if why:
        pytest.skip(why)
    with oci_registry() as running:
        yield running


@pytest.mark.slow
@pytest.mark.scale
def test_an_image_is_pulled_by_its_digest_and_only_when_asked(
    oci: OciRegistry, engine: Engine, containers: Containers, image_id: str, staging: Staging
) -> None:
    reference, digest = oci.push(engine.client, image_id, "tools/pulled")
    step = replace(python("print('here')"), image=Image(reference=reference, digest=digest))
    asked = replace(containers, image=None)
    with pytest.raises(EnvironmentFault, match="is not on this machine") as refused:
        asked(step, {}, staging, say([]))
    assert "--pull" in refused.value.fix
    wrong = replace(step, image=Image(reference=reference, digest=f"sha256:{'0' * 64}"))
    pulling = replace(asked, pull=True)
    with pytest.raises(EnvironmentFault, match="could not be pulled"):
        pulling(wrong, {}, staging, say([]))
    lines: list[str] = []
    ran = pulling(step, {}, staging, say(lines))
    assert lines == ["here"]
    assert ran["image"] == image_id
    digests = ran["digests"]
    assert isinstance(digests, list)
    assert digest in digests
    found = engine.client.images.get(f"{reference.rpartition(':')[0]}@{digest}")
    assert found.id == image_id
