"""`plan` and `targets` as they are run."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lmi import Ended, here

import lmi_compile.feasibility.answer as module
from lmi_recipes.catalog import catalog_names

SCHEMA = json.loads((Path(module.__file__).parent / "plan.schema.json").read_text())
LLAMA = "llama-2-7b-float16-tp1-g5.2xlarge"


def _run(*arguments: str, cache: Path) -> Ended:
    return here(*arguments, "--cache-dir", cache)


def _plan(*arguments: str, cache: Path) -> tuple[int, dict[str, Any]]:
    ended = _run("plan", *arguments, "--json", cache=cache)
    document: dict[str, Any] = ended.json()
    return ended.code, document


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert {"fits", "problems", "memory_per_rank", "max_batch_size_that_fits", "suggestions",
            "max_batch_size_with_reserve", "max_seq_len_that_fits", "critical_batch_size", "steps",
            "plan_key", "notes"} <= set(SCHEMA["required"])  # fmt: skip


@pytest.mark.parametrize("recipe", catalog_names())
def test_every_catalogue_recipe_follows_the_schema(recipe: str, tmp_path: Path) -> None:
    code, document = _plan(recipe, cache=tmp_path)
    jsonschema.validate(document, SCHEMA)
    assert code == (3 if document["fits"] is False else 0)
    assert (document["steps"] is None) == (document["plan_key"] is None)
    if document["steps"] is None:
        assert any("no steps" in note for note in document["notes"])


@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        (("target.instance_type=ml.p4d.24xlarge",), True),
        (("target.instance_type=ml.p4d.24xlarge", "quantization.method=fp8"), False),
        (("target.instance_type=ml.g4dn.xlarge",), False),
        (("target.instance_type=ml.p6e-gb200.36xlarge",), None),
        (("target.instance_type=ml.p6-b300.48xlarge",), False),
        (("target.instance_type=ml.g6e.2xlarge",), True),
        (("target.instance_type=ml.inf2.48xlarge",), False),
        (("tensor_parallel_degree=24", "shapes.max_seq_len=9000"), False),
    ],
)
def test_the_exit_code_follows_the_answer(
    overrides: tuple[str, ...], fits: bool | None, tmp_path: Path  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    flags = [word for one in overrides for word in ("--set", one)]
    code, document = _plan(LLAMA, *flags, cache=tmp_path)
    jsonschema.validate(document, SCHEMA)
    assert document["fits"] is fits
    assert code == (3 if fits is False else 0)
    assert bool(document["problems"]) == (fits is False)


def test_people_read_the_verdict_first_and_bars(tmp_path: Path) -> None:
    ended = _run("plan", LLAMA, "--set", "quantization.method=fp8", cache=tmp_path)
    lines = ended.err.splitlines()
    assert ended.code == 3
    assert lines[0] == "DOES NOT FIT"
    assert "FP8 needs Ada, Hopper or newer (sm_89); A10G is sm_86" in lines[1]
    fine = _run("plan", LLAMA, cache=tmp_path)
    assert fine.err.splitlines()[0] == "fits"
    bars = re.findall(r"^  (.{16}) ([#.]{20}) ", fine.err, re.MULTILINE)
    assert [name.strip() for name, _ in bars] == [
        "weights", "kv cache", "activations", "logits", "runtime reserve", "together",
    ]  # fmt: skip
    assert bars[0][1].count("#") == 11  # 13.5 of 24.0 GB


def test_a_price_gives_a_cost(tmp_path: Path) -> None:
    _, document = _plan(LLAMA, "--price", "1.52", cache=tmp_path)
    expected = document["expected"]
    rate = expected["tokens_per_second"]
    assert expected["usd_per_million_tokens"] == pytest.approx(1e6 / rate / 3600 * 1.52)
    _, without = _plan(LLAMA, cache=tmp_path)
    assert without["expected"]["usd_per_million_tokens"] is None


def test_all_targets_is_a_matrix(tmp_path: Path) -> None:
    ended = _run("plan", LLAMA, "--all-targets", "--json", cache=tmp_path)
    document = ended.json()
    jsonschema.validate(document, SCHEMA["$defs"]["all_targets"])
    rows = document["targets"]
    assert (ended.code, len(rows)) == (0, 63)
    assert {row["fits"] for row in rows} == {True, False, None}
    shown = _run("plan", LLAMA, "--all-targets", cache=tmp_path)
    assert len(re.findall(r"^  ml\.", shown.err, re.MULTILINE)) == 63


def test_the_picture_is_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "out.png"
    ended = _run("plan", LLAMA, "--plot", str(picture), cache=tmp_path)
    assert ended.code == 0, ended.err
    assert picture.read_bytes().startswith(b"\x89PNG")
    nowhere = _run("plan", LLAMA, "--plot", str(tmp_path / "no" / "out.png"), cache=tmp_path)
    assert nowhere.code == 8
    assert "cannot be written" in nowhere.err


def test_targets_are_listed_and_filtered() -> None:
    def listed(*arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = here("targets", *arguments, "--json").json()
        return found

    assert len(listed()) == 63
    assert {one["family"] for one in listed("--accelerator", "a100")} == {"p4d", "p4de"}
    assert {one["family"] for one in listed("--family", "inf2")} == {"inf2"}
    assert all(one["devices"] >= 8 for one in listed("--min-devices", "8"))
    assert {one["accelerator"]["name"] for one in listed("--min-memory", "140")} == {
        "H200", "B200", "B300",
    }  # fmt: skip
    assert [one["name"] for one in listed("g5.xlarge")] == ["ml.g5.xlarge"]


def test_an_unknown_target_ends_in_a_usage_error() -> None:
    ended = here("targets", "ml.g5.2xlage")
    assert ended.code == 2
    assert "did you mean ml.g5.2xlarge" in ended.err
