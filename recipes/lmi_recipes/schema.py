"""The recipe's JSON Schema, for editors and other tools."""

import json

from pydantic.json_schema import GenerateJsonSchema

from lmi_recipes.fields import section
from lmi_recipes.jsonvalue import JSONValue
from lmi_recipes.model import Recipe
from lmi_recipes.naming import DATA

SCHEMA_FILE = DATA / "recipe.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_json_schema() -> dict[str, JSONValue]:
    """Return the schema in draft 2020-12; rules between fields are not in it."""
    body: dict[str, JSONValue] = GenerateJsonSchema().generate(section(Recipe))
    body |= {"title": "lmi-compile recipe"}
    return {"$schema": _DIALECT, "$id": "urn:lmi-compile:recipe:v1", **body}


def recipe_schema_text() -> str:
    """Return the schema as it is committed in `recipe.schema.json`."""
    return json.dumps(recipe_json_schema(), indent=2) + "\n"
