from pathlib import Path

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lmi_recipes.errors import RecipesError
from lmi_recipes.reading import parse_recipe

WORDS = st.sampled_from(
    [
        *("apiVersion", "lmi-compile/v1", "name", "model", "id", "backend", "null", "aoti"),
        *("toolchain", "target", "cpu", "x86-64-v3", "shapes", "max_seq_len", "buckets"),
        *("quantization", "method", "smoothquant", "runtime", "matrix", "verify", "gates"),
        *("tp_size", "max_model_len", "dtype", "fp16", "pypi://a==1#b", "package", "layouts"),
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet="ab1 \n:#\"'é\\", max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)
MARKUP = st.lists(
    st.sampled_from(
        [*"abc01 \n\t:-[]{},&*!|>'\"%@`#?~.\\", "\n  ", ": ", "- ", "<<: ", "---\n", "...\n"]
    )
    | WORDS
).map("".join)
# Machines that run tests are shared: only the outcome counts, not the time.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(raw: bytes, *overrides: str) -> None:
    try:
        loaded = parse_recipe(raw, Path("random.yaml"), overrides)
    except RecipesError as error:
        said = str(error)
    else:
        said = loaded.recipe.name
    assert said


@relaxed
@example(b"\xc3\x80\x00")
@given(st.binary(max_size=200))
def test_random_bytes_are_a_recipe_or_a_clear_error(raw: bytes) -> None:
    read(raw)


@relaxed
@given(MARKUP)
@example("'\\ud800': 1")
@example('"\\ud800": "\\ud800"')
@example("? {a: b}\n: c")
@example("model: \nmodel_id: x")
@example("shapes: 1\nmax_batch_size: 2")
@example("runtime: {1: 2, ~: 3, true: 4}")
@example("quantization: []\nsmoothquant_alpha: 1")
def test_random_markup_is_a_recipe_or_a_clear_error(text: str) -> None:
    read(text.encode("utf-8", "surrogatepass"))


@relaxed
@given(st.dictionaries(WORDS, VALUES, max_size=8))
def test_random_documents_are_a_recipe_or_a_clear_error(document: dict[str, object]) -> None:
    read(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@relaxed
@given(MARKUP, MARKUP)
def test_random_overrides_are_a_recipe_or_a_clear_error(name: str, value: str) -> None:
    read(b"name: a\nmodel: {id: b}\n", f"{name}={value}", name)
