import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lmi_compile.errors import EnvironmentFault, Interrupted, OurBug, ToolFailed
from lmi_compile.executors.local import run_step
from lmi_compile.executors.running import Running
from lmi_compile.step import Argv, Call, Resources, Step
from lmi_compile.workspace import Staging, Workspace


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Workspace(tmp_path).stage("a" * 64)


def python(code: str, outputs: tuple[str, ...] = ()) -> Step:
    return Step(name="tool", run=Argv(argv=(sys.executable, "-c", code)), outputs=outputs)


def test_every_line_is_passed_on_and_kept(staging: Staging) -> None:
    lines: list[str] = []
    run_step(python("print('one'); print('two')"), {}, staging, lines.append)
    assert lines == ["one", "two"]
    assert staging.log.read_text() == "one\ntwo\n"


def test_a_tool_that_fails_shows_its_last_lines(staging: Staging) -> None:
    with pytest.raises(ToolFailed) as caught:
        run_step(python("print('cause'); raise SystemExit(3)"), {}, staging, lambda _: None)
    assert "exit 3" in caught.value.what
    assert caught.value.why == "cause"


def test_a_killed_tool_is_explained_as_out_of_memory(staging: Staging) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ToolFailed, match="memory"):
        run_step(python(code), {}, staging, lambda _: None)


def test_a_step_that_another_thread_ends_was_not_short_of_memory(staging: Staging) -> None:
    running = Running()
    step = python("print('up', flush=True); import time; time.sleep(600)")
    with pytest.raises(Interrupted):
        run_step(step, {}, staging, lambda _: running.cancel(), running=running)


def test_a_step_that_takes_too_long_is_ended(staging: Staging) -> None:
    step = replace(
        python("import time; print('began'); time.sleep(600)"),
        resources=Resources(timeout_seconds=0.5),
    )
    with pytest.raises(ToolFailed, match=r"ended after 0\.5 s"):
        run_step(step, {}, staging, lambda _: None)


def test_an_illegal_instruction_is_explained(staging: Staging) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    with pytest.raises(ToolFailed, match="CPU lacks"):
        run_step(python(code), {}, staging, lambda _: None)


def test_named_places_become_this_machines_paths(staging: Staging, tmp_path: Path) -> None:
    code = "import os, sys; print(*sys.argv[1:], os.environ['WORK'], sep='|')"
    places = ("{out}/a", "--x={in:model}", "{tmp}", "{in}", '{"json": {}}')
    step = replace(
        python(code), run=Argv(argv=(sys.executable, "-c", code, *places)), env={"WORK": "{tmp}/w"}
    )
    lines: list[str] = []
    run_step(step, {"model": tmp_path / "m"}, staging, lines.append)
    assert lines[0].split("|") == [
        f"{staging.out}/a",
        f"--x={tmp_path / 'm'}",
        f"{staging.root / 'tmp'}",
        "{in}",
        '{"json": {}}',
        f"{staging.root / 'tmp'}/w",
    ]


def test_a_place_of_a_step_that_is_not_needed_is_our_bug(staging: Staging) -> None:
    with pytest.raises(OurBug, match=r"\{in:model\} names no step"):
        run_step(Step(name="tool", run=Argv(argv=("{in:model}",))), {}, staging, lambda _: None)


def test_a_missing_output_is_a_failure_although_the_tool_said_0(staging: Staging) -> None:
    with pytest.raises(ToolFailed, match=r"engine\.bin"):
        run_step(python("pass", ("engine.bin",)), {}, staging, lambda _: None)


def test_a_tool_that_is_not_here_is_the_environments_fault(staging: Staging) -> None:
    step = Step(name="tool", run=Argv(argv=("no-such-compiler",)))
    with pytest.raises(EnvironmentFault, match="no-such-compiler"):
        run_step(step, {}, staging, lambda _: None)


def test_a_bug_in_a_call_is_ours(staging: Staging) -> None:
    step = Step(name="compile", run=Call(function="lmi_compile.backends.null.work:compile_table"))
    with pytest.raises(OurBug, match="KeyError"):
        run_step(step, {}, staging, lambda _: None)


def test_only_named_variables_are_inherited(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines: list[str] = []
    run_step(python("import os; print(sorted(os.environ))"), {}, staging, lines.append)
    assert "SECRET_TOKEN" not in lines[0]
    assert "OMP_NUM_THREADS" in lines[0]


def test_what_a_step_left_running_is_ended(staging: Staging) -> None:
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(p.pid)"
    )
    lines: list[str] = []
    run_step(python(code), {}, staging, lines.append)
    until = time.monotonic() + 60
    while Path(f"/proc/{lines[0]}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{lines[0]}").exists()
