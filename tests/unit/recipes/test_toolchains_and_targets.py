from pathlib import Path

import pytest

from lmi_recipes.errors import (
    RecipeInvalid,
    RecipeUnreadable,
    UnknownTarget,
    UnknownToolchain,
)
from lmi_recipes.target import cpu_target_names, load_cpu_target
from lmi_recipes.toolchain import load_toolchain, toolchain_names

ROOT = Path(__file__).resolve().parents[3]
SIMULATED = Path(__file__).parent / "toolchains"


@pytest.mark.parametrize("name", toolchain_names())
def test_a_catalogued_toolchain_is_real_and_invents_no_digest(name: str) -> None:
    toolchain = load_toolchain(name)
    assert not toolchain.simulated
    assert set(toolchain.builds_for.cpus) <= set(cpu_target_names())
    for image in toolchain.serves.images:
        assert image.built or image.digest is None


def test_the_aoti_toolchain_is_pinned_as_constraints_are() -> None:
    toolchain = load_toolchain("aoti-torch-2.13")
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    assert toolchain.versions["torch"] == pins["torch"]
    assert toolchain.versions["transformers"] == pins["transformers"]
    assert (toolchain.versions["compiler"], toolchain.versions["libc"]) == ("host", "host")
    assert "No published container carries torch 2.13.0" in toolchain.serves.contract
    assert toolchain.serves.images[0].built is False
    assert toolchain.to_json()["name"] == "aoti-torch-2.13"


def test_a_toolchain_beside_the_catalogue_is_found_and_says_it_is_simulated() -> None:
    toolchain = load_toolchain("sim-toolchain", extra=[SIMULATED])
    assert toolchain.simulated
    assert toolchain.builds_for.sm == (80, 90)
    assert toolchain.image is not None
    assert toolchain.image.digest is None


def test_a_folder_of_extra_toolchains_replaces_no_catalogued_one(tmp_path: Path) -> None:
    text = (
        (SIMULATED / "sim-toolchain.yaml").read_text().replace("sim-toolchain", "aoti-torch-2.13")
    )
    (tmp_path / "aoti-torch-2.13.yaml").write_text(text)
    assert not load_toolchain("aoti-torch-2.13", extra=[tmp_path]).simulated


@pytest.mark.parametrize("name", ["aoti-torch-2.31", "../toolchains/null", "", "a/b", "null\0"])
def test_an_unknown_toolchain_is_told(name: str) -> None:
    with pytest.raises(UnknownToolchain, match="no toolchain is named"):
        load_toolchain(name)


def test_the_nearest_toolchain_is_told() -> None:
    with pytest.raises(UnknownToolchain) as caught:
        load_toolchain("aoti-torch-2.31")
    assert caught.value.nearest == ("aoti-torch-2.13",)
    with pytest.raises(
        UnknownToolchain, match=r"there are aoti-torch-2\.11, .*null, .*sim-toolchain"
    ):
        load_toolchain("zzz", extra=[SIMULATED])


def test_a_bad_toolchain_file_is_told_with_its_places(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nbackend: aot\nversions: {torch: 2.13}\nserves: {contract: x}\n")
    with pytest.raises(RecipeInvalid) as caught:
        load_toolchain("own", extra=[tmp_path])
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [
        (2, "backend"),
        (1, "description"),
        (3, "versions.torch"),
    ]
    path.write_text("name: [")
    with pytest.raises(RecipeUnreadable):
        load_toolchain("own", extra=[tmp_path])


def test_a_toolchain_is_named_as_its_file(tmp_path: Path) -> None:
    text = (SIMULATED / "sim-toolchain.yaml").read_text()
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(RecipeInvalid, match=r"other\.yaml:1:7: name: must be the file's name"):
        load_toolchain("other", extra=[tmp_path])


def test_the_levels_of_x86_64_contain_one_another() -> None:
    levels = [load_cpu_target(name) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4")]
    assert [level.simdlen for level in levels] == [128, 256, 512]
    assert [level.march for level in levels] == [level.name for level in levels]
    flags = [set(level.required_flags) for level in levels]
    assert flags[0] < flags[1] < flags[2]
    assert {"avx2", "fma", "abm", "bmi2", "f16c", "movbe"} <= flags[1] - flags[0]
    assert flags[2] - flags[1] == {f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl")}


def test_what_a_cpu_lacks_is_named() -> None:
    target = load_cpu_target("x86-64-v4")
    have = frozenset(target.required_flags) - {"avx512f", "fma"}
    assert target.missing_from(have) == ("avx512f", "fma")
    assert target.missing_from(frozenset(target.required_flags)) == ()
    assert target.to_json()["simdlen"] == 512


def test_an_unknown_target_tells_the_nearest() -> None:
    with pytest.raises(UnknownTarget, match="did you mean x86-64-v"):
        load_cpu_target("x86-64-v5")
    with pytest.raises(UnknownTarget, match="there are x86-64-v2, x86-64-v3, x86-64-v4"):
        load_cpu_target("aarch64")
