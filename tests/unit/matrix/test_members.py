"""Which builds a matrix has, and which of them are selected."""

from pathlib import Path

import pytest

from lmi_compile.errors import MatrixInvalid
from lmi_compile.matrix.members import collect
from lmi_compile.matrix.select import parse_conditions, select
from lmi_recipes.errors import RecipesError, UnknownRecipe


def recipe(path: Path, extra: str = "", name: str = "") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(
        f"apiVersion: lmi-compile/v1\nname: {name or path.stem}\nmodel: {{id: here}}\n"
        f'backend: "null"\ntoolchain: "null"\ntarget: {{cpu: x86-64-v2}}\n{extra}',
        encoding="utf-8",
    )
    return path


def names(*sources: object, where: tuple[str, ...] = ()) -> list[str]:
    members = collect(map(str, sources))
    return [member.name for member in select(members, parse_conditions(where))]


def test_a_folder_means_its_recipes_but_not_what_they_import(tmp_path: Path) -> None:
    recipe(tmp_path / "b.yaml")
    recipe(tmp_path / "sub" / "a.yaml")
    recipe(tmp_path / "_parts" / "x.yaml")
    recipe(tmp_path / "_y.yaml")
    assert names(tmp_path) == ["b", "a"]


def test_globs_mean_files_or_else_the_catalogue(tmp_path: Path) -> None:
    recipe(tmp_path / "one.yaml")
    assert names(tmp_path / "o*.yaml") == ["one"]
    assert names("smollm2-135m-*-fp8", "null-demo") == [
        "smollm2-135m-instruct-cpu-fp8",
        "null-demo",
    ]


def test_the_same_file_twice_is_one_build(tmp_path: Path) -> None:
    file = recipe(tmp_path / "one.yaml")
    assert names(tmp_path, file, tmp_path / "*.yaml") == ["one"]


def test_two_builds_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    recipe(tmp_path / "one.yaml", name="same")
    recipe(tmp_path / "two.yaml", name="same")
    with pytest.raises(MatrixInvalid) as caught:
        collect([str(tmp_path)])
    assert "one.yaml" in caught.value.why
    assert "two.yaml" in caught.value.why


def test_two_values_that_give_one_name_are_refused(tmp_path: Path) -> None:
    file = recipe(tmp_path / "one.yaml", 'matrix: {runtime.k: ["a b", "a-b"]}\n')
    with pytest.raises(MatrixInvalid, match="stand twice"):
        collect([str(file)])


def test_what_is_no_recipe_stays_with_its_problem(tmp_path: Path) -> None:
    recipe(tmp_path / "good.yaml")
    (tmp_path / "bad.yaml").write_text("nonsense: true\n", encoding="utf-8")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    bad, gone, good = collect([str(tmp_path)])
    assert (bad.name, gone.name, good.name) == ("bad", "gone", "good")
    assert isinstance(bad.loaded, RecipesError)
    assert isinstance(gone.loaded, RecipesError)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (("dtype=float16",), ["half"]),
        (("dtype=float*", "name!=half"), ["full"]),
        (("name=half|full",), ["full", "half"]),
        (("backend=null,dtype=float32",), ["full"]),
        (("target=x86*",), ["full", "half"]),
        (("quantization=none",), ["full", "half"]),
    ],
    ids=str,
)
def test_conditions_must_all_hold(
    tmp_path: Path, where: tuple[str, ...], expected: list[str]
) -> None:
    recipe(tmp_path / "full.yaml")
    recipe(tmp_path / "half.yaml", "dtype: float16\n")
    assert names(tmp_path, where=where) == expected


def test_family_is_the_configs_model_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # files that fit a glob come before the catalogue
    found = names("*", where=("family=llama",))
    assert {"llama-2-70b-fp8-tp8-p5.48xlarge", "smollm2-135m-instruct-cpu"} <= set(found)
    assert not [name for name in found if name.startswith(("mistral", "bert"))]


@pytest.mark.parametrize(
    ("sources", "where", "said"),
    [
        (["null-demo"], ("famly=llama",), "did you mean family"),
        (["null-demo"], ("family",), "field=value"),
        (["null-demo"], ("family=llama",), "no recipe is selected"),
        (["no-such-*"], (), "fits no file"),
    ],
    ids=str,
)
def test_words_that_mean_nothing_say_so(
    sources: list[str], where: tuple[str, ...], said: str
) -> None:
    with pytest.raises(MatrixInvalid) as caught:
        names(*sources, where=where)
    assert said in f"{caught.value.what} {caught.value.fix}"


def test_an_unknown_recipe_is_unknown() -> None:
    with pytest.raises(UnknownRecipe):
        collect(["null-dem"])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MatrixInvalid, match="holds no recipe"):
        collect([str(tmp_path)])
