"""The main job on a real model: SmolLM2-135M-Instruct, compiled once per run."""

import json
import shutil
from pathlib import Path

import pytest
from lmi import SmolLM2, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]


def test_it_is_accepted_proven_and_published(smollm2: SmolLM2) -> None:
    assert smollm2.built["decision"] == "ACCEPT"
    assert smollm2.built["proof"] == "PROVEN"
    assert smollm2.built["artifact"].startswith("smollm2-135m-instruct-cpu@sha256:")
    assert smollm2.lmi.artifacts() == [smollm2.built["artifact"]]
    assert "verdict: ACCEPT" in smollm2.said
    assert "PROVEN" in smollm2.said
    assert "Paris" in smollm2.said


def test_every_gate_was_measured_on_every_prompt(smollm2: SmolLM2) -> None:
    shown = smollm2.lmi("show", smollm2.built["artifact"], "--json").json()
    (verdict,) = [
        item["predicate"] for item in shown["statements"] if "verdict" in item["predicateType"]
    ]
    assert {"logit_error_rel", "greedy_margin", "kl_max", "stop_errors"} <= {
        check["metric"] for check in verdict["checks"]
    }
    assert all(check["measured"] is not None for check in verdict["checks"])
    assert len(verdict["measurements"]["prompts"]) >= 6


def test_the_second_run_is_a_full_cache_hit(smollm2: SmolLM2) -> None:
    again = smollm2.lmi(smollm2.recipe, "--json").json()
    assert again == {**smollm2.built, "cached": True, "seconds": {}}


def test_a_fine_tune_reuses_the_compiled_graphs(smollm2: SmolLM2, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - only here

    base = smollm2.lmi(smollm2.recipe, "--until", "model", "--json").json()["path"]
    tuned = tmp_path / "tuned"
    shutil.copytree(base, tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.norm.weight"] *= 1.01
    (tuned / "model.safetensors").unlink()
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    recipe = write_recipe(tmp_path / "tuned.yaml", str(tuned), max_input_len=384, max_seq_len=512)
    built = smollm2.lmi(recipe, "--until", "package", "--json").json()
    assert set(built["seconds"]) == {"fetch", "model", "weights", "package"}


def test_the_archive_and_the_prefix_are_one_artifact(smollm2: SmolLM2) -> None:
    tree = Path(smollm2.built["path"])
    manifest = json.loads((tree / "lmi-artifact.json").read_bytes())
    assert {"prefix", "tar.gz"} == set(smollm2.lmi("list", "--json").json()[0]["layouts"])
    assert sum(file["size"] for file in manifest["files"]) > 500_000_000
