"""How a field of a recipe is declared: its type, its core schema, and one sentence.

A section is a frozen dataclass whose fields are `Annotated[type, core schema, description]`.
pydantic's own core validates it: the same Rust code as a `BaseModel`, strict, all errors at once.
The `BaseModel` machinery is left out because it costs 70 ms of imports (plugin discovery reads
the metadata of every installed distribution) on a path that has 250 ms in all; see README.md.
"""

from dataclasses import MISSING, fields, is_dataclass
from typing import TypeAlias

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from lmi_recipes.jsonvalue import JSONValue

Scalar: TypeAlias = str | int | float | bool

# What a pattern asks for, in words, for the message of a mismatch.
PATTERN_WORDS: dict[str, str] = {}
SCALAR_ERROR = "scalar_type"
_validators: dict[type, SchemaValidator] = {}


def whole(low: int, high: int) -> CoreSchema:
    """Return a strict whole number within bounds."""
    return core_schema.int_schema(ge=low, le=high, strict=True)


def number(
    *, above: float | None = None, low: float | None = None, high: float | None = None
) -> CoreSchema:
    """Return a strict finite number; `above` is an open bound, `low` and `high` closed ones."""
    return core_schema.float_schema(gt=above, ge=low, le=high, strict=True, allow_inf_nan=False)


def flag() -> CoreSchema:
    """Return a strict true or false."""
    return core_schema.bool_schema(strict=True)


def text(
    pattern: str | None = None, words: str = "", *, shortest: int = 1, longest: int = 1024
) -> CoreSchema:
    """Return strict text; `words` says what the pattern asks for."""
    if pattern is not None:
        PATTERN_WORDS[pattern] = words
    return core_schema.str_schema(
        pattern=pattern, min_length=shortest, max_length=longest, strict=True
    )


def one_of(*choices: str) -> CoreSchema:
    """Return one of the given words."""
    return core_schema.literal_schema(list(choices))


def optional(schema: CoreSchema) -> CoreSchema:
    """Return the schema or null."""
    return core_schema.nullable_schema(schema)


def many(schema: CoreSchema, *, at_least: int = 0, at_most: int = 1024) -> CoreSchema:
    """Return a list, kept as a tuple."""
    return core_schema.tuple_variable_schema(schema, min_length=at_least, max_length=at_most)


def mapping(values: CoreSchema, keys: CoreSchema | None = None) -> CoreSchema:
    """Return a mapping from names to values."""
    return core_schema.dict_schema(keys or text(longest=128), values, max_length=256)


def scalar() -> CoreSchema:
    """Return text, a whole number, a finite number, or true/false, kept as written."""
    return core_schema.union_schema(
        [flag(), core_schema.int_schema(strict=True), number(), text(shortest=0)],
        custom_error_type=SCALAR_ERROR,
        custom_error_message="must be text, a number, true or false",
    )


def section(cls: type) -> CoreSchema:
    """Return the schema of a dataclass whose fields are declared with this module."""
    declared = []
    for field in fields(cls):
        schema, description = cls.__annotations__[field.name].__metadata__
        if field.default is not MISSING:
            schema = core_schema.with_default_schema(schema, default=field.default)
        elif field.default_factory is not MISSING:
            schema = core_schema.with_default_schema(schema, default_factory=field.default_factory)
        declared.append(
            core_schema.dataclass_field(
                field.name,
                schema,
                kw_only=True,
                metadata={"pydantic_js_updates": {"description": description}},
            )
        )
    return core_schema.dataclass_schema(
        cls,
        core_schema.dataclass_args_schema(cls.__name__, declared),
        [field.name for field in fields(cls)],
        slots=True,
        frozen=True,
        config={"extra_fields_behavior": "forbid"},
    )


def validator(cls: type) -> SchemaValidator:
    """Return the compiled validator of a section, made once per process."""
    if cls not in _validators:
        _validators[cls] = SchemaValidator(section(cls))
    return _validators[cls]


def sections_in(cls: type) -> dict[str, type]:
    """Return the fields of a section that are themselves sections, with their classes."""
    found = {}
    for field in fields(cls):
        inner = _class_in(cls.__annotations__[field.name].__metadata__[0])
        if inner is not None:
            found[field.name] = inner
    return found


def _class_in(schema: CoreSchema) -> type | None:
    """Return the dataclass a core schema builds, alone, optional or in a list."""
    match schema["type"]:
        case "dataclass":
            built: type = schema["cls"]
            return built
        case "nullable":
            return _class_in(schema["schema"])
        case "tuple":
            return _class_in(schema["items_schema"][0])
        case _:
            return None


def as_json(value: object) -> JSONValue:
    """Return a section as JSON: every field present, tuples as lists.

    Raises:
        TypeError: The value holds something a section cannot hold.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    message = f"a recipe cannot hold {type(value).__name__}"
    raise TypeError(message)
