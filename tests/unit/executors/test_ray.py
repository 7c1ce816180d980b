"""Steps on a real Ray cluster: where they run, what is tried again, what a death leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flows import build, same_where_it_counts
from lmi import Lmi
from raycluster import ENV, Cluster, ray_cluster
from s3servers import KEY, SECRET, seaweed

from lmi_compile.executors.ray_resources import Ask, ask_of, fits
from lmi_compile.step import Argv, Resources, Step

DRIVER = Path(__file__).parent / "ray_driver.py"
_WITHIN = 180.0
# The first try says who runs it and waits to be killed; the next one writes.
_MORTAL = """
import os, sys, time
out, place = sys.argv[1:]
with open(place + "/tries", "a") as tries:
    tries.write(f"{os.getpid()} {os.getppid()}\\n")
open(out + "/half", "w").close()
if len(open(place + "/tries").readlines()) == 1:
    time.sleep(600)
os.remove(out + "/half")
open(out + "/whole", "w").close()
"""
_ONCE = """
import sys
out, place = sys.argv[1:]
open(place + "/once", "a").write("x")
open(out + "/done", "w").close()
"""
_COPIES = """
import os, shutil, sys
out, once = sys.argv[1:]
print(os.listdir(once))
os.mkdir(out + "/in")
shutil.copyfile(once + "/done", out + "/in/done")
open(out + "/run.sh", "w").close()
os.chmod(out + "/run.sh", 0o755)
"""
_CODE = """
import sys
out, place, code, good_from = sys.argv[1:]
open(place + "/counted", "a").write("x")
if len(open(place + "/counted").read()) < int(good_from):
    raise SystemExit(int(code))
"""
A10G = {"accelerator": "A10G", "accelerator_count": 1}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head with 2 cores, and a node that says it has A10Gs."""
    with ray_cluster() as running:
        running.add("a10g", 1, '{"accelerator_type:A10G": 1}', gpus=2)
        yield running


@dataclass(frozen=True)
class Drive:
    """Runs the driver on chains of steps."""

    cluster: Cluster
    place: Path

    @property
    def cache(self) -> Path:
        return self.place / "cache"

    def start(self, *steps: dict[str, Any], **more: str) -> "subprocess.Popen[str]":
        spec = {"cache": str(self.cache), "address": self.cluster.address, "steps": steps} | more
        path = self.place / "spec.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        return subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT", sys.executable, str(DRIVER), str(path)],
            env={**os.environ, **ENV}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip

    def __call__(self, *steps: dict[str, Any], **more: str) -> Any:
        return self.end(self.start(*steps, **more))

    def end(self, process: "subprocess.Popen[str]") -> Any:
        """Its last line; Ray prints none, and nothing half-made is left in the cache."""
        out, _ = process.communicate(timeout=300)
        lines = [json.loads(line) for line in out.splitlines()]
        assert not list((self.cache / "staging").glob("*"))
        return lines[-1] | {"lines": [line["said"] for line in lines if "said" in line]}

    def mortal(self, **more: Any) -> dict[str, Any]:
        return {"name": "mortal", "code": _MORTAL, "more": [str(self.place)],
                "outputs": ["whole"], **more}  # fmt: skip

    def once(self) -> dict[str, Any]:
        return {"name": "once", "code": _ONCE, "more": [str(self.place)], "outputs": ["done"]}

    def copies(self, **more: Any) -> dict[str, Any]:
        """After `once`: the file that it wrote, and a program."""
        return {"name": "copies", "code": _COPIES, "more": ["{in:once}"],
                "outputs": ["in/done", "run.sh"], **more}  # fmt: skip

    def coded(self, code: int, good_from: int, **more: Any) -> dict[str, Any]:
        return {"name": "coded", "code": _CODE,
                "more": [str(self.place), str(code), str(good_from)], **more}  # fmt: skip

    def first_try(self) -> tuple[int, int]:
        """The process of the first try and the worker that started it, once it runs."""
        file = self.place / "tries"
        wait_until(lambda: file.exists() and bool(file.read_text()))
        process, worker = file.read_text().split()
        return int(process), int(worker)

    def tries(self) -> int:
        return len((self.place / "tries").read_text().splitlines())


@pytest.fixture
def drive(cluster: Cluster, tmp_path: Path) -> Drive:
    return Drive(cluster, tmp_path)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + _WITHIN
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """No such process, or only its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_step_asks_in_rays_words() -> None:
    step = Step(
        name="engine",
        run=Argv(argv=("x",)),
        resources=Resources(accelerator="A100-40GB", accelerator_count=8, memory_bytes=1 << 30),
    )
    assert ask_of(step).options() == {
        "num_cpus": 1,
        "num_gpus": 8,
        "memory": 1 << 30,
        "resources": {"accelerator_type:A100-40G": 0.001},
    }
    neuron = Resources(accelerator="inf2", accelerator_count=24, cores=8)
    step = Step(name="compile", run=Argv(argv=("x",)), resources=neuron)
    assert ask_of(step) == Ask(cpus=8, others={"neuron_cores": 24})
    labelled = {"CPU": 8.0, "neuron_cores": 24.0, "accelerator_type:inf2": 1.0}
    assert ask_of(step, [labelled]).others == {"neuron_cores": 24, "accelerator_type:inf2": 0.001}
    assert fits(ask_of(step), [labelled])
    assert not fits(ask_of(step), [{"CPU": 8.0}, {"neuron_cores": 24.0}])


@pytest.mark.slow
def test_a_step_runs_where_its_hardware_is_and_only_transient_ends_are_tried_again(
    drive: Drive,
) -> None:
    ended = drive(drive.once(), drive.coded(70, 3, retry=[70], resources=A10G))
    assert ended["ended"] == 0, ended
    ids = {name: record["node_id"] for name, record in ended["records"].items()}
    assert len(set(ids.values())) == 2
    assert "try 3 of 3: step coded failed: exit 70" in ended["lines"]
    assert (drive.place / "counted").read_text() == "xxx"


@pytest.mark.slow
def test_outputs_travel_through_a_registry_where_nodes_share_no_cache(drive: Drive) -> None:
    store = str(drive.place / "store")
    ended = drive(drive.once(), drive.copies(resources=A10G), store=store)
    assert ended["ended"] == 0, ended
    assert "['done']" in ended["lines"]
    (copied,) = drive.cache.glob("steps/*/out/in/done")
    program = copied.parents[1] / "run.sh"
    assert (copied.read_text(), os.access(program, os.X_OK)) == ("", True)
    on_node = {path.name for path in drive.cluster.cache("a10g").glob("ray/steps/*/out/*")}
    assert {"done", "in", "run.sh"} <= on_node  # what it needed was brought to it
    elsewhere = {"store": store, "cache": str(drive.place / "new")}
    again = drive(drive.once(), drive.copies(resources=A10G), **elsewhere)
    assert again["ended"] == 0, again
    assert {record["executor"] for record in again["records"].values()} == {
        "none: from the registry"
    }
    assert (drive.place / "once").read_text() == "x"


@pytest.mark.slow
@pytest.mark.scale
def test_nodes_that_cannot_see_the_cache_build_the_same_through_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)  # of every node, too
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    here = build(tmp_path / "home", "null-demo")
    with seaweed() as server, ray_cluster(hidden=tmp_path) as apart:
        apart.add("other", 1)
        flags = ["--executor", "ray", "--ray-address", apart.address]
        home = tmp_path / "lost"
        home.mkdir()
        lost = Lmi(home=home)("null-demo", *flags, **ENV)
        assert lost.code == 8, lost.err
        assert "does not see the cache" in lost.err
        assert "--ray-store" in lost.err
        store = server.url(server.bucket("steps"))
        there = build(tmp_path / "home", "null-demo", *flags, "--ray-store", store, **ENV)
    same_where_it_counts(here, there)
    assert {ran["executor"] for ran in there.ran.values()} == {"ray"}


@pytest.mark.slow
def test_a_failure_away_from_the_cache_is_told_with_its_log(drive: Drive) -> None:
    through = {"store": str(drive.place / "store"), "cache": str(drive.cluster.cache("a10g"))}
    second = drive.coded(3, 9, name="second", resources=A10G)  # the driver runs on that node
    failed = drive(drive.coded(75, 2, resources=A10G), second, **through)
    assert (failed["ended"], failed["kind"]) == (4, "ToolFailed")
    assert "step second failed: exit 3" in failed["what"]
    assert (drive.place / "counted").read_text() == "xxx"  # 75 once, and 3 once
    assert "try 2 of 3: step coded failed: exit 75" in failed["lines"]


@pytest.mark.slow
def test_a_real_failure_is_not_tried_again(drive: Drive) -> None:
    failed = drive(drive.once(), drive.coded(3, 9))
    assert (failed["ended"], failed["kind"]) == (4, "ToolFailed")
    assert "exit 3" in failed["what"]
    assert (drive.place / "counted").read_text() == "x"


@pytest.mark.slow
def test_what_stays_transient_is_given_up(drive: Drive) -> None:
    failed = drive(drive.coded(75, 9))
    assert (failed["ended"], failed["kind"]) == (75, "Transient")
    assert "exit 75; given up after 3 tries" in failed["what"]
    assert (drive.place / "counted").read_text() == "xxx"


@pytest.mark.slow
def test_a_killed_worker_costs_one_try(drive: Drive) -> None:
    driver = drive.start(drive.once(), drive.mortal())
    process, worker = drive.first_try()
    os.kill(worker, signal.SIGKILL)
    ended = drive.end(driver)
    assert ended["ended"] == 0, ended
    assert drive.tries() == 2
    assert (drive.place / "once").read_text() == "x"
    assert [line for line in ended["lines"] if "its process or its node died" in line], ended
    outputs = {path.name for path in drive.cache.glob("steps/*/out/*")}
    assert outputs == {"done", "whole"}
    wait_until(lambda: gone(process))


@pytest.mark.slow
def test_a_killed_node_costs_one_try(drive: Drive) -> None:
    drive.cluster.add("spare", 1, '{"accelerator_type:A10G": 1}', gpus=1)
    driver = drive.start(drive.once(), drive.mortal(resources=A10G))
    process, worker = drive.first_try()
    drive.cluster.kill(drive.cluster.node_of(worker))
    ended = drive.end(driver)
    assert ended["ended"] == 0, ended
    assert drive.tries() == 2
    assert (drive.place / "once").read_text() == "x"
    assert {path.name for path in drive.cache.glob("steps/*/out/*")} == {"done", "whole"}
    wait_until(lambda: gone(process))


@pytest.mark.slow
def test_a_killed_driver_takes_its_tasks_along_and_the_next_one_picks_up(drive: Drive) -> None:
    driver = drive.start(drive.once(), drive.mortal())
    process, worker = drive.first_try()
    driver.kill()
    driver.communicate()
    assert len(list(drive.cache.glob("steps/*"))) == 1
    wait_until(lambda: gone(process) and gone(worker))
    ended = drive(drive.once(), drive.mortal())
    assert (ended["ended"], ended["ran"]) == (0, ["mortal"])
    assert (drive.place / "once").read_text() == "x"


@pytest.mark.slow
def test_ctrl_c_ends_the_step_on_its_node(drive: Drive) -> None:
    driver = drive.start(drive.mortal())
    process, _ = drive.first_try()
    os.kill(driver.pid, signal.SIGINT)
    ended = drive.end(driver)
    assert (ended["ended"], ended["kind"]) == (130, "Interrupted")
    wait_until(lambda: gone(process))


@pytest.mark.slow
def test_cancelling_from_another_thread_ends_the_step_and_is_no_bad_luck(drive: Drive) -> None:
    sign = drive.place / "cancel"
    driver = drive.start(drive.mortal(), cancel=str(sign))
    process, _ = drive.first_try()
    sign.touch()
    ended = drive.end(driver)
    assert (ended["ended"], ended["kind"]) == (130, "Interrupted"), ended
    assert drive.tries() == 1
    wait_until(lambda: gone(process))


@pytest.mark.slow
def test_what_no_node_has_is_said_at_once(drive: Drive) -> None:
    wanted = {"accelerator": "H100", "accelerator_count": 8}
    failed = drive(drive.once(), drive.mortal(resources=wanted))
    assert failed["ended"] == 8
    assert failed["what"] == "no node of the cluster has what mortal needs"
    assert "step mortal needs 1 CPU, 8 GPU, accelerator_type:H100" in failed["why"]
    assert "accelerator_type:A10G" in failed["why"]
    assert not (drive.place / "once").exists()


def test_a_cluster_that_does_not_answer_is_said(tmp_path: Path) -> None:
    nobody = Drive(Cluster(tmp_path, "127.0.0.1:1", ENV), tmp_path)
    failed = nobody(nobody.once())
    assert failed["ended"] == 8
    assert failed["what"] == "the Ray cluster at 127.0.0.1:1 cannot be reached"
    assert "--ray-address" in failed["fix"]
