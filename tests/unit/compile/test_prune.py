"""Old and unused steps go; what a run may still read stays."""

import os
import time
from pathlib import Path

from lmi_compile.prune import Rules, prune
from lmi_compile.workspace import Workspace

DAY = 86_400.0


def step(workspace: Workspace, letter: str, *, days: float, size: int = 1000) -> str:
    key = letter * 64
    staging = workspace.stage(key)
    (staging.out / "file").write_bytes(bytes(size))
    workspace.commit(key, staging, {"name": letter})
    stamp = time.time() - days * DAY
    os.utime(workspace.root / "steps" / key / "step.json", (stamp, stamp))
    return key


def test_what_is_too_old_goes_and_nothing_goes_unasked(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old, new = step(workspace, "a", days=40), step(workspace, "b", days=1)
    asked = prune(workspace, Rules(seconds=30 * DAY), delete=False)
    assert (asked.steps, asked.busy) == ((old,), False)
    assert workspace.find(old) is not None
    done = prune(workspace, Rules(seconds=30 * DAY), delete=True)
    assert done.steps == (old,)
    assert 1000 <= done.freed < 1200
    assert (workspace.find(old), workspace.find(new) is None) == (None, False)
    assert prune(workspace, Rules(seconds=30 * DAY), delete=True).steps == ()


def test_the_least_used_go_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    keys = [step(workspace, letter, days=days) for letter, days in (("a", 1), ("b", 3), ("c", 2))]
    done = prune(workspace, Rules(size=1500), delete=True)
    assert done.steps == (keys[1], keys[2])
    assert done.kept <= 1500


def test_using_a_step_makes_it_young(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    key = step(workspace, "a", days=40)
    workspace.use(key)
    assert prune(workspace, Rules(seconds=30 * DAY), delete=True).steps == ()


def test_beside_a_run_only_what_is_a_day_old_goes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old, new = step(workspace, "a", days=2), step(workspace, "b", days=0.5)
    staging = workspace.stage("c" * 64)
    with workspace.at_work():
        done = prune(workspace, Rules(seconds=0.0, size=0), delete=True)
        assert (done.steps, done.busy) == ((old,), True)
        assert staging.root.exists()
    assert workspace.find(new) is not None
    done = prune(workspace, Rules(seconds=0.0), delete=True)
    assert done.steps == (new,)
    assert not staging.root.exists()


def test_logs_of_failures_go_by_age(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for letter, days in (("a", 40.0), ("b", 0.0)):
        staging = workspace.stage(letter * 64)
        staging.log.write_text("said")
        folder = workspace.fail(letter * 64, staging).parent
        os.utime(folder, (time.time() - days * DAY,) * 2)
    done = prune(workspace, Rules(seconds=30 * DAY), delete=True)
    assert done.rubbish == (f"failed/{'a' * 64}",)


def test_an_empty_cache_has_nothing_to_prune(tmp_path: Path) -> None:
    assert prune(Workspace(tmp_path / "none"), Rules(seconds=0.0), delete=True).freed == 0
