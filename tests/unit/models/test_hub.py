"""Models of a hub, against a hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import COMMIT, TOKEN, Hub

from lmi_compile.errors import ModelFault, Transient
from lmi_compile.models.hub import hub_config, resolve_revision, run
from lmi_compile.preview import preview
from lmi_recipes.catalog import find_recipe
from lmi_recipes.reading import read_recipe

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"\x08\0\0\0\0\0\0\0{}      " * 100,
    "pytorch_model.bin": b"\x80\x04.",
    "tokenizer.json": b"{}",
    "LICENSE": b"be good",
    "training_args.bin": b"\x80\x04.",
    "onnx/model.onnx": b"x",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub(dict(FILES))
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


def fetch(out: Path) -> None:
    out.mkdir()
    run({"id": "org/model", "revision": COMMIT}, {}, out)


def test_a_branch_becomes_a_commit_and_a_commit_asks_nobody(hub: Hub) -> None:
    assert resolve_revision("org/model", None) == COMMIT
    assert resolve_revision("org/model", "main") == COMMIT
    hub.asked.clear()
    assert resolve_revision("org/model", COMMIT) == COMMIT
    assert hub.asked == []
    with pytest.raises(ModelFault, match="no such revision"):
        resolve_revision("org/model", "v9")
    with pytest.raises(ModelFault, match="no such model"):
        resolve_revision("org/other", None)


def test_only_what_is_needed_is_fetched_and_no_pickle(hub: Hub, tmp_path: Path) -> None:
    fetch(tmp_path / "out")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    wanted = ("config.json", "model.safetensors", "tokenizer.json", "LICENSE")
    assert found == {name: FILES[name] for name in wanted}
    assert not [path for path in hub.asked if path.endswith((".bin", ".onnx"))]


def test_pickles_alone_are_refused(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(ModelFault, match="only pickles") as caught:
        fetch(tmp_path / "out")
    assert "pytorch_model.bin" in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.damage.add(name)
    with pytest.raises(ModelFault, match=f"{name} of org/model is damaged"):
        fetch(tmp_path / "out")


@pytest.mark.parametrize(("gate", "why"), [("gated", "403: it is gated"), ("private", "401")])
def test_refusals_are_explained(hub: Hub, tmp_path: Path, gate: str, why: str) -> None:
    hub.gate = gate
    with pytest.raises(ModelFault, match=why) as caught:
        fetch(tmp_path / "out")
    assert "HF_TOKEN" in caught.value.fix


def test_a_gated_licence_has_to_be_accepted_in_the_recipe(hub: Hub, tmp_path: Path) -> None:
    hub.gate = "licence"
    with pytest.raises(ModelFault, match="has to be accepted"):
        fetch(tmp_path / "one")
    (tmp_path / "two").mkdir()
    params = {"id": "org/model", "revision": COMMIT, "accept_license": "llama2"}
    run(params, {}, tmp_path / "two")
    assert (tmp_path / "two" / "LICENSE").exists()


def test_the_token_is_used_and_never_shown(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.gate = "private"
    fetch(tmp_path / "out")
    hub.gate = "gated"
    with pytest.raises(ModelFault) as caught:
        resolve_revision("org/model", None)
    shown = "".join(capfd.readouterr()) + caplog.text + str(caught.value) + repr(caught.value)
    assert TOKEN not in shown


def test_no_hub_is_transient(hub: Hub) -> None:
    hub.close()
    with pytest.raises(Transient):
        resolve_revision("org/model", None)


def test_a_commits_config_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    hub.files["config.json"] = b'{"model_type": "llama"}'
    commit, config = hub_config("org/model", "main", tmp_path)
    assert (commit, config) == (COMMIT, {"model_type": "llama"})
    asked = len(hub.asked)
    assert hub_config("org/model", COMMIT, tmp_path) == (commit, config)
    assert len(hub.asked) == asked
    assert not any("safetensors" in path for path in hub.asked)


def test_a_repository_without_a_config_is_refused(hub: Hub, tmp_path: Path) -> None:
    del hub.files["config.json"]
    with pytest.raises(ModelFault, match=r"config\.json|cannot be fetched"):
        hub_config("org/model", COMMIT, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_a_plan_needs_of_a_hub_model_only_its_config(hub: Hub, tmp_path: Path) -> None:
    hub.files["config.json"] = (
        Path(find_recipe("smollm2-135m-instruct-cpu"))
        .parent.joinpath("configs", "smollm2-135m-instruct.json")
        .read_bytes()
    )
    recipe = tmp_path / "hub.yaml"
    recipe.write_text(
        "apiVersion: lmi-compile/v1\nname: hub\nmodel: {id: org/model}\nbackend: aoti\n"
        "toolchain: aoti-torch-2.13\ntarget: {cpu: x86-64-v3}\n"
        "shapes: {max_input_len: 24, max_seq_len: 96}\n"
    )
    found = preview(read_recipe(recipe), tmp_path / "cache").to_json()
    assert found["memory_per_rank"]["weights"] > 500_000_000
    assert [step["name"] for step in found["steps"]][:2] == ["fetch", "model"]
    assert found["steps"][0]["params"]["revision"] == COMMIT
    assert not any("safetensors" in path for path in hub.asked)
