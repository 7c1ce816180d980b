"""The built wheel, installed where nothing else of this checkout is: whole, and light."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROOMS = {"compile": "lmi_compile", "recipes": "lmi_recipes", "artifacts": "lmi_artifacts",
         "verify": "lmi_verify"}  # fmt: skip


def _tracked() -> set[str]:
    """Every file of the four packages that git knows, by its name in a wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - any git will do
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    parts = [name.partition("/") for name in listed if (ROOT / name).is_file()]
    return {rest for room, _, rest in parts if rest.startswith(f"{ROOMS.get(room)}/")}


def _build(source: Path, kind: str, out: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (made,) = (path for path in out.iterdir() if path.suffix == {"wheel": ".whl"}.get(kind, ".gz"))
    return made


def _names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(ROOT, "wheel", tmp_path_factory.mktemp("dist"))


def test_the_wheel_has_every_file_of_the_four_packages_and_no_other(wheel: Path) -> None:
    names = _names(wheel)
    assert names == _tracked()
    assert {f"{package}/py.typed" for package in ROOMS.values()} <= names


def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = _build(ROOT, "sdist", tmp_path)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = _build(source, "wheel", tmp_path / "again")
    assert _names(again) == _names(wheel)
    assert {"README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "SECURITY.md", "mkdocs.yml"} <= {
        path.name for path in source.iterdir()
    }


def _closure(wanted: set[str]) -> Iterator[str]:
    """The packages that these need, each once; extras are left out."""
    todo, done = list(wanted), set[str]()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        yield name
        needs = map(Requirement, distribution(name).requires or ())
        todo += [one.name for one in needs if not one.marker or one.marker.evaluate({"extra": ""})]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's programs: pip has installed the wheel, with what it requires.

    What it requires is linked from this environment, so that no index is asked: exactly the
    packages that the wheel's own metadata leads to without an extra.
    """
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False)
    programs = home / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    (site,) = home.glob("lib/python3*/site-packages")
    (metadata,) = site.glob("lmi_compile-*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    own = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines
           if line.startswith("Requires-Dist: ")]  # fmt: skip
    for name in _closure({one.name for one in own if not one.marker}):
        found = distribution(name)
        for top in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))))
    return programs


def _run(installed: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LMI_")}
    return subprocess.run(
        [installed / "lmi-compile", *arguments],
        env={**kept, "LMI_CACHE_DIR": str(home / "cache"), "LMI_CONFIG": str(home / "none")},
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_needs_no_extra_works(installed: Path, tmp_path: Path) -> None:
    assert _run(installed, tmp_path, "--version").stdout.startswith("lmi-compile, version ")
    names = _run(installed, tmp_path, "recipes").stdout.splitlines()
    assert len(names) == len(list((ROOT / "recipes/lmi_recipes/catalog").glob("*.yaml")))
    for verb in (["validate", *names], ["schema"], ["schema", "verdict"], ["explain", "5"],
                 ["targets"], ["doctor", "--json"], ["plan", "smollm2-135m-instruct-cpu"],
                 ["plan", "llama-2-70b-inf2-tp24"]):  # fmt: skip
        ended = _run(installed, tmp_path, *verb)
        assert ended.returncode == (8 if verb[0] == "doctor" else 0), (verb, ended.stderr)


def test_a_build_without_extras_is_proven_published_and_pulled(
    installed: Path, tmp_path: Path
) -> None:
    built = _run(installed, tmp_path, "null-demo", "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["decision"] == "ACCEPT"
    assert _run(installed, tmp_path, "pull", "null-demo", "pulled").returncode == 0
    assert (tmp_path / "pulled" / "lmi-artifact.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ("smollm2-135m-instruct-cpu", "pip install torch==2.13.0"),
        ("null-demo --executor container", "lmi-compile[container]"),
        ("null-demo --executor ray", "lmi-compile[ray]"),
        ("null-demo --executor sagemaker", "lmi-compile[s3]"),
        ("list --registry s3://bucket/prefix", "lmi-compile[s3]"),
        ("plan llama-2-7b-inf2-tp2 --plot p.png", "lmi-compile[plot]"),
        ("init --model meta-llama/x --for ml.g5.xlarge", "lmi-compile[hub]"),
    ],
)
def test_a_missing_extra_is_named_with_what_installs_it(
    arguments: str, fix: str, installed: Path, tmp_path: Path
) -> None:
    ended = _run(installed, tmp_path, *arguments.split())
    assert ended.returncode == 8, ended.stderr
    assert fix in ended.stderr
    assert "Traceback" not in ended.stderr
