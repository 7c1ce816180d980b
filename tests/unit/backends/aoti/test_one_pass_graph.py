"""The one graph of encoders and image classifiers, traced: whatever the company, the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_pass import KINDS, MOST_TOKENS, OnePassKind
from one_pass_runs import BATCH, Traced, error, traced

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    kind: OnePassKind = request.param
    return traced(kind, tmp_path_factory.mktemp(kind.name) / "model")


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, MOST_TOKENS), min_size=1, max_size=BATCH),
    seed=st.integers(0, 999),
)
def test_outputs_are_eager_ones_whatever_the_padding_and_the_neighbours(
    sides: Traced, sizes: list[int], seed: int
) -> None:
    rows = sides.rows(sizes, seed)
    program = sides.exported.program.module()
    assert error(sides.together(program)(rows), sides.alone(rows)) < 1e-5
