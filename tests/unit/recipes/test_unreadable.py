import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from lmi_recipes.errors import RecipeInvalid, RecipeUnreadable
from lmi_recipes.problems import Problem
from lmi_recipes.reading import parse_recipe, read_recipe

BOMB = "a: &a [x, x]\n" + "".join(
    f"{two}: &{two} [*{one}, *{one}, *{one}]\n" for one, two in pairwise("abcdefghi")
)


def refused(raw: bytes) -> Problem:
    with pytest.raises(RecipeUnreadable) as caught:
        parse_recipe(raw, Path("recipe.yaml"))
    (problem,) = caught.value.problems
    assert str(caught.value) == str(problem)
    return problem


@pytest.mark.parametrize(
    ("raw", "place", "words"),
    [
        (b"", (None, None), "is empty"),
        (b"# only a comment\n", (None, None), "is empty"),
        (b"model:\n\tid: x\n", (2, 1), "indented with a tab"),
        (b"model:\n  id: x\n  \ttask: y\n", (3, 3), "indented with a tab"),
        (b"a: [1, 2\nb: 3\n", (2, 2), "is not YAML"),
        (b"a: 'open\n", (2, 1), "is not YAML"),
        (b"a: b: c\n", (1, 5), "is not YAML"),
        (b"a: 1\n---\nb: 2\n", (2, 1), "several documents"),
        (b"name: caf\xe9\n", (1, 10), "is not UTF-8: byte 0xe9"),
        (b"a: 1\nb: \x00\n", (2, 4), "U+0000"),
        ("ä: ä\nö\0".encode(), (2, 2), "U+0000"),
        (b"\xff\xfea\x00", (1, 1), "is not UTF-8"),
        (b"a: &x 1\nb: *x\n", (2, 4), "alias *x"),
        (b"a: !!python/object:os.system x\n", (1, 4), "tag"),
        (b"a: !!str 1\n", (1, 4), "tag"),
        (BOMB.encode(), (2, 8), "alias *a"),
        (b"a: " + b"[" * 100 + b"]" * 100, (1, 35), "nested more than 32 deep"),
        (b"[" * 1_000_000, (1, 33), "nested more than 32 deep"),
        (b"a: [" + b"1," * 10_001 + b"]", (1, 19999), "more than 10000 values"),
    ],
)
def test_what_is_no_recipe_text_is_refused_at_its_place(
    raw: bytes, place: tuple[int | None, int | None], words: str
) -> None:
    problem = refused(raw)
    assert words in problem.message
    assert (problem.line, problem.column) == place


@pytest.mark.parametrize("raw", [b"- a\n- b\n", b"just text\n", b"12\n", b"null\n"])
def test_a_root_that_is_no_mapping_is_invalid(raw: bytes) -> None:
    with pytest.raises(RecipeInvalid, match=r"recipe\.yaml:1:1: must be a mapping of fields"):
        parse_recipe(raw, Path("recipe.yaml"))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeUnreadable, match=r"no-such\.yaml: does not exist"):
        read_recipe(tmp_path / "no-such.yaml")


def test_a_directory_and_a_pipe_are_refused_without_being_opened(tmp_path: Path) -> None:
    with pytest.raises(RecipeUnreadable, match="is a directory"):
        read_recipe(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecipeUnreadable, match="no regular file"):
        read_recipe(tmp_path / "pipe")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(RecipeUnreadable, match="is no file name"):
        read_recipe(Path("a\0b"))
    with pytest.raises(RecipeUnreadable, match="cannot be read: File name too long"):
        read_recipe(Path("a" * 5000))


def test_fifty_megabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    start = time.thread_time()
    with pytest.raises(RecipeUnreadable, match="is 50000000 bytes long"):
        read_recipe(path)
    assert time.thread_time() - start < 0.5  # parsing it would take minutes
