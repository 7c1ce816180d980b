import errno
import multiprocessing
from pathlib import Path

import pytest

from lmi_compile.errors import EnvironmentFault
from lmi_compile.workspace import Workspace, disk_faults

KEY = "a" * 64


def test_a_step_is_visible_only_once_it_is_complete(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    staging = workspace.stage(KEY)
    (staging.out / "file").write_text("content")
    assert workspace.find(KEY) is None
    assert list(workspace.finished()) == []
    out = workspace.commit(KEY, staging, {"name": "step", "seconds": 1.0, "key": {}})
    assert (out / "file").read_text() == "content"
    assert workspace.find(KEY) == out
    assert workspace.record(KEY)["name"] == "step"


def test_staging_again_clears_what_a_dead_process_left(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    left = tmp_path / "staging" / f"{KEY}.1" / "out"
    left.mkdir(parents=True)
    staging = workspace.stage(KEY)
    assert not left.exists()
    assert list(staging.out.iterdir()) == []


def test_a_failed_step_keeps_its_log_and_nothing_else(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    staging = workspace.stage(KEY)
    staging.log.write_text("what it said")
    (staging.out / "half").write_text("made")
    log = workspace.fail(KEY, staging)
    assert log.read_text() == "what it said"
    assert not staging.root.exists()
    assert workspace.find(KEY) is None


def test_a_discarded_step_runs_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.commit(KEY, workspace.stage(KEY), {"name": "step"})
    workspace.discard(KEY)
    assert workspace.find(KEY) is None


def _hold(root: Path, order: "multiprocessing.Queue[str]", name: str) -> None:
    with Workspace(root).lock(KEY, lambda: order.put(f"{name} waits")):
        order.put(f"{name} in")
        order.put(f"{name} out")


def test_a_key_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    order: multiprocessing.Queue[str] = context.Queue()
    with Workspace(tmp_path).lock(KEY, lambda: None):
        other = context.Process(target=_hold, args=(tmp_path, order, "other"))
        other.start()
        assert order.get(timeout=120) == "other waits"
        assert order.empty()
    assert order.get(timeout=120) == "other in"
    other.join(120)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_the_environments_fault(
    tmp_path: Path, number: int
) -> None:
    with pytest.raises(EnvironmentFault) as caught, disk_faults(tmp_path):
        raise OSError(number, "a reason")
    assert "--cache-dir" in caught.value.fix


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a reason"), disk_faults(tmp_path):
        raise OSError(errno.EIO, "a reason")
