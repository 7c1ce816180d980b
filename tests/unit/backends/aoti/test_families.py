"""Families whose layers are unlike Llama's, traced and run without compiling them."""

import pytest
from family_configs import DECODERS, Family
from family_runs import right, tried

# tests/families/families.py runs all of them, compiled as well; test_export.py has the others.
UNLIKE = {
    "Falcon, ALiBi", "Falcon, MQA", "GPT-J", "BLOOM (ALiBi)", "Mixtral", "gpt-oss",
    "Llama, linear RoPE", "Llama, dynamic RoPE",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [one for one in DECODERS if one.shown in UNLIKE], ids=lambda one: one.shown
)
def test_its_graphs_give_its_logits_and_tokens(family: Family) -> None:
    row = tried(family, compile_too=False)
    assert "export" in row, row
    assert right(row), row


@pytest.mark.parametrize("shown", ["Baichuan", "InternLM"])
def test_a_family_that_transformers_does_not_have_is_refused_by_its_name(shown: str) -> None:
    (family,) = [one for one in DECODERS if one.shown == shown]
    row = tried(family, compile_too=False)
    assert f"no model type that transformers knows: '{shown.lower()}'" in row["refused"]


def test_a_wrong_row_is_called_wrong() -> None:
    assert right({"export": (1e-7, True)})
    assert not right({"export": (1e-7, False)})
    assert not right({"export": (1e-7, True), "compiled": (1e-3, True)})
