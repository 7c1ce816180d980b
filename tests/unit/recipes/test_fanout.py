"""`matrix:` and `imports:` of a recipe."""

from pathlib import Path

import pytest

from lmi_recipes.errors import RecipeInvalid
from lmi_recipes.fanout import fan_out
from lmi_recipes.reading import LoadedRecipe, read_recipe

BASE = (
    'apiVersion: lmi-compile/v1\nname: base\nmodel: {id: here}\nbackend: "null"\n'
    'toolchain: "null"\ntarget: {cpu: x86-64-v2}\n'
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_without_a_matrix_is_one_build(tmp_path: Path) -> None:
    (one,) = fan_out(write(tmp_path / "base.yaml", BASE))
    assert (one.name, dict(one.values)) == ("base", {})


def test_each_combination_is_a_whole_recipe_with_a_name_of_its_own(tmp_path: Path) -> None:
    matrix = "matrix: {dtype: [fp16, float32], shapes.max_batch_size: [1, 8], runtime.a.b: [x]}\n"
    found = list(fan_out(write(tmp_path / "base.yaml", BASE + matrix)))
    recipes = [one.made.recipe for one in found if isinstance(one.made, LoadedRecipe)]
    assert [recipe.name for recipe in recipes] == [
        "base-fp16-max_batch_size-1-x",
        "base-fp16-max_batch_size-8-x",
        "base-float32-max_batch_size-1-x",
        "base-float32-max_batch_size-8-x",
    ]
    assert [recipe.dtype for recipe in recipes] == ["float16", "float16", "float32", "float32"]
    assert recipes[1].shapes.max_batch_size == 8
    assert {dict(recipe.runtime)["a.b"] for recipe in recipes} == {"x"}
    assert all(recipe.matrix == {} for recipe in recipes)


def test_a_combination_that_is_no_recipe_says_so_and_the_others_stay(tmp_path: Path) -> None:
    matrix = "matrix: {shapes.max_input_len: [16, 9999], dtype: [float32]}\n"
    good, bad = fan_out(write(tmp_path / "base.yaml", BASE + matrix))
    assert isinstance(good.made, LoadedRecipe)
    assert isinstance(bad.made, RecipeInvalid)
    assert "max_seq_len" in str(bad.made)
    assert bad.name == "base-max_input_len-9999-float32"


def test_long_names_stay_different(tmp_path: Path) -> None:
    long = "a" * 200
    matrix = f"matrix: {{model.id: [{long}1, {long}2]}}\n"
    one, two = fan_out(write(tmp_path / "base.yaml", BASE + matrix))
    assert isinstance(one.made, LoadedRecipe)
    assert one.name != two.name
    assert len(one.name) == 128


def test_too_many_combinations_are_refused_by_number(tmp_path: Path) -> None:
    values = list(range(1, 102))
    matrix = f"matrix: {{shapes.max_batch_size: {values}, shapes.max_seq_len: {values}}}\n"
    with pytest.raises(RecipeInvalid, match="makes 10,201 builds"):
        list(fan_out(write(tmp_path / "base.yaml", BASE + matrix)))


def test_imports_come_first_and_the_recipes_own_fields_win(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "shapes.yaml", "shapes: {max_batch_size: 4, max_seq_len: 64}\n")
    write(tmp_path / "parts" / "more.yaml", "imports: [shapes.yaml]\nshapes: {max_seq_len: 96}\n")
    text = BASE + "imports: [parts/more.yaml]\nshapes: {max_batch_size: 2}\n"
    recipe = read_recipe(write(tmp_path / "base.yaml", text)).recipe
    assert (recipe.shapes.max_batch_size, recipe.shapes.max_seq_len) == (2, 96)


def test_a_problem_in_an_imported_file_carries_its_own_place(tmp_path: Path) -> None:
    write(tmp_path / "part.yaml", "dtype: float32\nshapes: {max_batch_size: 0}\n")
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe(write(tmp_path / "base.yaml", BASE + "imports: [part.yaml]\n"))
    (problem,) = caught.value.problems
    assert (Path(problem.file).name, problem.line) == ("part.yaml", 2)


def test_a_circle_of_imports_is_named_whole(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", "imports: [c.yaml]\n")
    write(tmp_path / "c.yaml", "imports: [b.yaml]\n")
    with pytest.raises(RecipeInvalid, match=r"b\.yaml -> c\.yaml -> b\.yaml"):
        read_recipe(write(tmp_path / "a.yaml", BASE + "imports: [b.yaml]\n"))
    with pytest.raises(RecipeInvalid, match=r"own\.yaml -> own\.yaml"):
        read_recipe(write(tmp_path / "own.yaml", BASE + "imports: [own.yaml]\n"))


def test_a_missing_import_names_the_line_that_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe(write(tmp_path / "base.yaml", BASE + "imports:\n  - gone.yaml\n"))
    (problem,) = caught.value.problems
    assert (problem.line, problem.field) == (8, "imports")
