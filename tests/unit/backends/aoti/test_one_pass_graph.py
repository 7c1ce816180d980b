"""The one graph of encoders and image classifiers, traced: whatever the company, the same."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_pass import KINDS, MOST_TOKENS, OnePassKind, write_model

from lmi_compile.backends.aoti.one_pass import graph
from lmi_compile.backends.aoti.one_pass.ground import input_names, labels, picture_shape
from lmi_verify.one_pass.heads import head_of
from lmi_verify.one_pass.reference import load

pytestmark = pytest.mark.slow
BATCH = 4
_WORDS = 100  # below every tiny vocabulary
Rows = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> OnePassKind:
    found: OnePassKind = request.param
    return found


@pytest.fixture(scope="module")
def both(kind: OnePassKind, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows]:
    """Eagerly, each alone; and through the traced graph, all of them together."""
    directory = write_model(tmp_path_factory.mktemp(kind.name) / "model", kind)
    config = json.loads((directory / "config.json").read_bytes())
    config["num_labels"] = labels(config)
    head = head_of(kind.task, config)
    assert head is not None
    eager: Any = load(directory, head.loader, trust_remote_code=False)
    model = graph.build({k: v for k, v in config.items() if "2" not in k}, head)
    strange = model.load_state_dict(eager.state_dict(), strict=False)
    assert not strange.missing_keys
    assert all(name.startswith("pooler.") for name in strange.unexpected_keys)
    names = input_names(config, head)
    pad = int(eager.config.pad_token_id or 0) if head.reads == "text" else 0
    limits: dict[str, Any] = {"max_batch_size": BATCH, "max_input_len": MOST_TOKENS}
    if head.reads == "image":
        limits["picture"] = list(picture_shape(config))
    program = graph.export(model, head, names, limits).program.module()

    def alone(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        found = []
        for row in rows:
            given = (
                {"pixel_values": row[None]} if head.reads == "image" else _asked([row], names, pad)
            )
            with torch.no_grad():
                found.append(getattr(eager(**given), head.output)[0])
        return found

    def together(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if head.reads == "image":
            inputs = [torch.stack(list(rows))]
        else:
            asked = _asked(rows, names, pad)
            inputs = [asked[name] for name in names]
        with torch.no_grad():
            out = program(inputs)
        whole = head.name in {"label", "picture"}
        return [out[i] if whole else out[i, : len(row)] for i, row in enumerate(rows)]

    return alone, together


def _asked(rows: Sequence[torch.Tensor], names: Sequence[str], pad: int) -> dict[str, torch.Tensor]:
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: made[name] for name in names}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_outputs_are_eager_ones_whatever_the_padding_and_the_neighbours(
    kind: OnePassKind, both: tuple[Rows, Rows], data: st.DataObject
) -> None:
    alone, together = both
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    if kind.pixels is not None:
        count = data.draw(st.integers(1, BATCH))
        side = kind.pixels
        rows = [torch.randn(3, side, side, generator=generator) for _ in range(count)]
    else:
        sizes = data.draw(st.lists(st.integers(1, MOST_TOKENS), min_size=1, max_size=BATCH))
        rows = [torch.randint(2, _WORDS, (size,), generator=generator) for size in sizes]
    for wanted, found in zip(alone(rows), together(rows), strict=True):
        assert found.shape == wanted.shape
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
