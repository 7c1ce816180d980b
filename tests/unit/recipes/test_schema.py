from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest
import yaml

from lmi_recipes.catalog import catalog_names, find_recipe
from lmi_recipes.reading import read_recipe
from lmi_recipes.schema import SCHEMA_FILE, recipe_json_schema, recipe_schema_text

LLAMA = Path(__file__).parent / "llama-2-70b.yaml"
FILES = [*(find_recipe(name) for name in catalog_names()), LLAMA]


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(recipe_json_schema())


def test_the_committed_schema_is_the_generated_one() -> None:
    assert SCHEMA_FILE.read_text() == recipe_schema_text()


def test_the_schema_is_a_schema_without_an_invented_host() -> None:
    schema = recipe_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == "urn:lmi-compile:recipe:v1"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recipes_and_their_resolved_forms_validate(path: Path) -> None:
    validator().validate(yaml.safe_load(path.read_text()))
    validator().validate(read_recipe(path).recipe.to_json())


@pytest.mark.parametrize("name", catalog_names())
def test_an_editor_finds_the_schema_from_a_catalogue_recipe(name: str) -> None:
    path = find_recipe(name)
    first = path.read_text().splitlines()[0]
    word = "# yaml-language-server: $schema="
    assert first.startswith(word)
    assert (path.parent / first.removeprefix(word)).resolve() == SCHEMA_FILE


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dtype": "float8"}, "dtype"),
        ({"shapes": {"max_batch_size": 0}}, "max_batch_size"),
        ({"shapes": {"max_batch_size": "8"}}, "max_batch_size"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(change: dict[str, object], field: str) -> None:
    document = yaml.safe_load(LLAMA.read_text()) | change
    (error,) = validator().iter_errors(document)
    assert error.path[-1] == field


def test_every_field_is_described() -> None:
    def described(schema: Mapping[str, object]) -> None:
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        for name, inner in properties.items():
            assert inner.get("description"), name
            described(inner)

    described(recipe_json_schema())
