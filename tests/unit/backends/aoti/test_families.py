"""Every family of decoders, small and random: all traced and run, four of them compiled as well.

Another four for each commit, each test of theirs says so in its name: `pytest --collect-only`, or
`python tests/families/families.py --turn`. `make families` compiles all, with optimised code.
"""

import pytest
from family_configs import DECODERS, Family
from family_runs import COMPILED, right, tried
from turn import some_of_this_commit

UNKNOWN = {"Baichuan", "InternLM"}
_TURN = some_of_this_commit(COMPILED, 4)


def _called(family: Family) -> str:
    return f"{family.shown}, compiled" if family in _TURN else family.shown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Inductor's own
@pytest.mark.parametrize(
    "family", [one for one in DECODERS if one.shown not in UNKNOWN], ids=_called
)
def test_its_graphs_give_its_logits_and_tokens(family: Family) -> None:
    row = tried(family, compile_too=family in _TURN, draft=True)
    assert "export" in row, row
    assert ("compiled" in row) == (family in _TURN), row
    assert right(row), row


@pytest.mark.parametrize("shown", sorted(UNKNOWN))
def test_a_family_that_transformers_does_not_have_is_refused_by_its_name(shown: str) -> None:
    (family,) = [one for one in DECODERS if one.shown == shown]
    row = tried(family, compile_too=False)
    assert f"no model type that transformers knows: '{shown.lower()}'" in row["refused"]


def test_a_wrong_row_is_called_wrong() -> None:
    assert right({"export": (1e-7, True)})
    assert not right({"export": (1e-7, False)})
    assert not right({"export": (1e-7, True), "compiled": (1e-3, True)})


def test_each_commit_has_four_and_each_family_its_turn() -> None:
    taken = [some_of_this_commit(COMPILED, 4, start) for start in range(len(COMPILED))]
    assert {len({one.shown for one in four}) for four in taken} == {4}
    assert {one.shown for four in taken for one in four} == {one.shown for one in COMPILED}
