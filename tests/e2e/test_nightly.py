"""Nights of the same matrix: history, reports, quarantine, what changed since green."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from lmi import Ended, Lmi

pytestmark = pytest.mark.slow


@pytest.fixture
def nights(lmi: Lmi) -> Lmi:
    """Two recipes; `bad` publishes to a registry that cannot be written."""
    (lmi.home / "a-file").write_text("where a folder should be")
    for name, extra in (("good", ""), ("bad", "publish: {registry: a-file}\n")):
        write(lmi, name, extra)
    return lmi


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Lmi:
    """A home where the steps of both recipes have been built."""
    lmi = Lmi(home=tmp_path_factory.mktemp("built"))
    write(lmi, "good")
    assert night(lmi).code == 0
    return lmi


@pytest.fixture
def later(nights: Lmi, built: Lmi) -> Lmi:
    """The two recipes, whose steps are finished."""
    shutil.copytree(built.home / "cache", nights.home / "cache")
    return nights


def write(lmi: Lmi, name: str, extra: str = "", batch: int = 1) -> None:
    folder = lmi.home / "recipes"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(
        f"apiVersion: lmi-compile/v1\nname: {name}\nmodel: {{id: here}}\n"
        'backend: "null"\ntoolchain: "null"\ntarget: {cpu: x86-64-v2}\n'
        f"shapes: {{max_batch_size: {batch}, max_input_len: 16, max_seq_len: 32}}\n{extra}",
        encoding="utf-8",
    )


def night(lmi: Lmi, *more: str) -> Ended:
    return lmi("matrix", "recipes", "--json", *more)


def states(ended: Ended) -> dict[str, str]:
    return {build["name"]: build["state"] for build in ended.json()["builds"]}


def runs(lmi: Lmi) -> list[Path]:
    return sorted((lmi.registry / "records" / "runs").iterdir())


def test_what_keeps_failing_is_quarantined_in_sight_and_let_out_by_a_change(nights: Lmi) -> None:
    for number in range(3):
        ended = night(nights)
        assert ended.code == 9, ended.err
        assert states(ended) == {"bad": "failed", "good": "built" if number == 0 else "cached"}
    held = night(nights, "--junit", "junit.xml", "--markdown", "summary.md")
    assert held.code == 0, held.err
    assert states(held) == {"bad": "quarantined", "good": "cached"}
    assert "bad: quarantined; failed 3 times in a row since" in held.err
    suite = ET.parse(nights.home / "junit.xml").getroot()[0]  # noqa: S314 - our own text
    assert (suite.get("tests"), suite.get("skipped")) == ("2", "1")
    assert "quarantined" in (nights.home / "summary.md").read_text("utf-8")

    assert states(night(nights, "--retry-quarantined"))["bad"] == "failed"
    write(nights, "bad", "publish: {registry: a-file}\n", batch=2)
    assert states(night(nights))["bad"] == "failed"
    assert len(runs(nights)) == 6


def test_a_run_keeps_figures_times_sizes_and_the_log_of_what_failed(nights: Lmi) -> None:
    night(nights)
    (path,) = runs(nights)
    run = json.loads(path.read_bytes())
    bad, good = run["builds"]
    assert good["figures"] == {"differing_prompts": [0.0, 0.0]}
    assert good["size"] > 4096
    assert set(good["seconds"]) >= {"model", "compile", "judge"}
    assert bad["error"]["exit_code"] == 7
    log = nights.registry / "records" / "logs" / run["id"] / "bad.txt"
    assert "a-file" in log.read_text("utf-8")


def test_since_green_names_the_fields_that_changed(later: Lmi) -> None:
    assert night(later).code == 9
    write(later, "good", batch=4)
    ended = night(later, "--since-green", "--dry-run")
    changed = {one["name"]: one.get("changed_since_green") for one in ended.json()["builds"]}
    assert changed["bad"] == ["it was never green"]
    assert "compile: run.params.max_batch_size: 1 -> 4" in changed["good"]
    assert not any(line.startswith("package") for line in changed["good"])
    assert "changed since it was green" in ended.err


def test_a_history_that_cannot_be_written_is_a_note_and_no_failure(later: Lmi) -> None:
    assert night(later, "--select", "name=good").code == 0
    records = later.registry / "records"
    records.rename(later.registry / "elsewhere")
    records.write_text("a file where a folder should be")
    ended = night(later, "--select", "name=good")
    assert ended.code == 0, ended.err
    assert "not in the history" in ended.err


def test_a_report_that_cannot_be_written_is_exit_8_after_the_builds(later: Lmi) -> None:
    ended = night(later, "--select", "name=good", "--junit", "/dev/full")
    assert ended.code == 8
    assert "/dev/full" in ended.err
    assert len(later.artifacts()) == 1


def test_the_dashboard_of_real_runs_says_what_broke(later: Lmi) -> None:
    write(later, "bad")
    assert night(later).code == 0
    write(later, "bad", "publish: {registry: a-file}\n", batch=2)
    assert night(later).code == 9
    assert later("dashboard", "site").code == 0
    page = (later.home / "site" / "index.html").read_text("utf-8")
    assert "compile: run.params.max_batch_size: 1 -&gt; 2" in page
    assert "last green" in page
    assert 'href="verdicts/good.html"' in page
    assert "ACCEPT" in (later.home / "site" / "verdicts" / "good.html").read_text("utf-8")
