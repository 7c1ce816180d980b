"""The commands of docs/nightly.md run, as far as they can without GitHub and cron."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lmi import Lmi

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "nightly.md"


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [str(block) for block in found]


@pytest.fixture
def project(lmi: Lmi) -> Lmi:
    """The folder of recipes that the page shows."""
    for block in blocks("yaml"):
        first = block.splitlines()[0]
        if first.startswith("# recipes/"):
            path = lmi.home / first.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")
    return lmi


def shell(lmi: Lmi, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    binaries = str(Path(sys.executable).parent)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-e", "-c", script],
        cwd=lmi.home,
        env={**lmi.env, "PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_cron_script_builds_reports_and_prunes(project: Lmi) -> None:
    (script,) = [block for block in blocks("sh") if block.startswith("# nightly.sh")]
    (project.home / "nightly.sh").write_text(script, encoding="utf-8")
    home = str(project.home)
    env = {"REGISTRY": f"{home}/registry", "SITE": f"{home}/site", "REPORTS": f"{home}/reports"}
    first = shell(project, "sh nightly.sh", **env)
    assert first.returncode == 0, first.stderr
    assert "2 built" in first.stderr
    second = shell(project, "sh nightly.sh", **env)
    assert "2 cached" in second.stderr
    assert "tiny-max_batch_size-4" in (project.home / "site" / "index.html").read_text("utf-8")
    assert 'tests="2"' in (project.home / "reports" / "junit.xml").read_text("utf-8")
    (line,) = blocks("crontab")
    assert re.fullmatch(r"0 3 \* \* \* cd \S+ && (?:\w+=\S+ )+sh nightly\.sh\n", line)


def test_the_workflows_commands_run(project: Lmi) -> None:
    (text,) = [block for block in blocks("yaml") if block.startswith("name: nightly")]
    steps = yaml.safe_load(text)["jobs"]["matrix"]["steps"]
    summary = project.home / "step-summary.md"
    env = {"REGISTRY": f"{project.home}/registry", "GITHUB_STEP_SUMMARY": str(summary)}
    for step in steps:
        if "run" in step:
            ended = shell(project, step["run"], **env)
            assert ended.returncode == 0, ended.stderr
    assert "| ✅ |" in summary.read_text("utf-8")
    assert (project.home / "site" / "index.html").exists()


def test_the_first_command_and_the_toolchains_example_are_what_is_read(project: Lmi) -> None:
    ended = shell(project, f"{blocks('sh')[0].strip()} --dry-run")
    assert ended.returncode == 0, ended.stderr
    assert "tiny-max_batch_size-1" in ended.stderr
