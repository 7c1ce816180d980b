"""The compiled graphs give the Hugging Face model's logits, and refuse what they cannot take."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from lmi_compile.backends.aoti.runtime.graphs import Graphs, LimitExceeded

MAX_INPUT, SLOTS, VOCAB = 24, 96, 300
_TOLERANCE = 1e-5  # of the largest logit; the gate of a float32 build is ten times that


@pytest.fixture(scope="module")
def graphs(built: SimpleNamespace) -> Graphs:
    return Graphs(built.package)


@pytest.fixture(scope="module")
def expected(built: SimpleNamespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids [SLOTS] and the model's logits [SLOTS, VOCAB] on them."""
    model = AutoModelForCausalLM.from_pretrained(built.model).eval()
    ids = torch.randint(0, VOCAB, (SLOTS,), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return ids, model(ids[None]).logits[0]


@pytest.mark.parametrize("length", [1, 2, 17, MAX_INPUT])
def test_prefill_then_decode_to_the_last_slot(
    graphs: Graphs, expected: tuple[torch.Tensor, torch.Tensor], length: int
) -> None:
    ids, logits = expected
    limit = _TOLERANCE * logits.abs().max()
    read = graphs.prefill(ids[:length], torch.arange(length))
    assert read.shape == (length, VOCAB)
    assert (read - logits[:length]).abs().max() <= limit
    for position in range(length, SLOTS):
        row = graphs.decode(int(ids[position]), position)
        assert (row - logits[position]).abs().max() <= limit


def test_only_the_asked_rows_come_back(
    graphs: Graphs, expected: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ids, logits = expected
    rows = graphs.prefill(ids[:20], torch.tensor([19, 3]))
    assert torch.allclose(rows, logits[[19, 3]], atol=1e-4)
    one = graphs.prefill(ids[:20], torch.tensor([19]))
    assert torch.allclose(one, logits[[19]], atol=1e-4)


def test_a_shorter_text_sees_nothing_of_the_longer_one_before_it(
    graphs: Graphs, expected: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ids, logits = expected
    graphs.prefill(ids[:MAX_INPUT].flip(0), torch.tensor([0]))
    graphs.prefill(ids[:5], torch.tensor([4]))
    row = graphs.decode(int(ids[5]), 5)
    assert torch.allclose(row, logits[5], atol=1e-4)


@pytest.mark.parametrize(
    ("ids", "rows", "says"),
    [
        (torch.zeros(0, dtype=torch.int64), torch.tensor([0]), "0 token ids"),
        (torch.zeros(MAX_INPUT + 1, dtype=torch.int64), torch.tensor([0]), "25 token ids"),
        (torch.zeros(3), torch.tensor([0]), "int64 vector"),
        (torch.zeros(1, 3, dtype=torch.int64), torch.tensor([0]), "int64 vector"),
        (torch.tensor([VOCAB]), torch.tensor([0]), "token id 300 is outside 0..299"),
        (torch.tensor([-1]), torch.tensor([0]), "token id -1"),
        (torch.tensor([1, 2]), torch.tensor([2]), "row 2 is outside 0..1"),
        (torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), "0 rows"),
    ],
)
def test_prefill_refuses_what_the_library_would_take_silently(
    graphs: Graphs, ids: torch.Tensor, rows: torch.Tensor, says: str
) -> None:
    with pytest.raises(LimitExceeded, match=says):
        graphs.prefill(ids, rows)


@pytest.mark.parametrize(("token", "position"), [(VOCAB, 3), (-1, 3), (1, SLOTS), (1, -1)])
def test_decode_refuses_what_the_library_would_take_silently(
    graphs: Graphs, token: int, position: int
) -> None:
    with pytest.raises(LimitExceeded):
        graphs.decode(token, position)
