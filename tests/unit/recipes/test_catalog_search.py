"""A person finds a recipe by words of it."""

from pathlib import Path

import pytest

from lmi_recipes.catalog import catalog_names, find_recipe, search_catalog, why_so
from lmi_recipes.errors import UnknownRecipe
from lmi_recipes.reading import read_recipe


def test_every_word_counts_in_any_case_and_order() -> None:
    found = search_catalog(["INF2", "Llama-2"])
    assert found == tuple(
        name for name in catalog_names() if name.startswith("llama-2-") and "inf2" in name
    )
    assert found == search_catalog(["llama-2", "inf2"])
    assert len(found) >= 3


def test_a_recipe_is_found_by_its_target_and_its_reason() -> None:
    for name in search_catalog(["ml.p5.48xlarge"]):
        assert read_recipe(find_recipe(name)).recipe.target.instance_type == "ml.p5.48xlarge"
    assert search_catalog(["compiles", "nothing"]) == ("null-demo",)


def test_no_match_names_the_nearest() -> None:
    with pytest.raises(UnknownRecipe, match="null-demo"):
        search_catalog(["null", "dem0"])


def test_every_recipe_says_in_a_sentence_why_it_is_so() -> None:
    for name in catalog_names():
        assert len(why_so(find_recipe(name)).split()) > 5, name
        assert why_so(find_recipe(name)).endswith("."), name


def test_why_is_the_head_of_the_file_only(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("# yaml-language-server: $schema=x\n# Small,\n# and cheap.\nname: r\n# no\n")
    assert why_so(path) == "Small, and cheap."
