"""Models split over real processes: the logits of the whole, and its weights bit by bit."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from family_configs import SMALL

from lmi_compile.backends.aoti import parallel, sharding, skeleton
from lmi_compile.backends.aoti.parallel import Split, require_degree, valid_degrees
from lmi_compile.backends.aoti.weights import merged, piece
from lmi_compile.errors import Unsupported

# Its vocabulary divides by no degree: the last rank's rows are padded.
SIZES = {**SMALL, "head_dim": 8}
CHANGES: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 6},
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "granite": {"attention_multiplier": 0.3, "logits_scaling": 2.0},
}
SMOLLM2 = {
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
}


def _config(family: str, **changes: Any) -> dict[str, Any]:
    return {**SIZES, "model_type": family, **CHANGES.get(family, {}), **changes}


def _split_run(degree: int, configs: dict[str, dict[str, Any]], folder: Path) -> Any:
    script = Path(__file__).parents[3] / "fixtures" / "split_ranks.py"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(degree), str(folder / "store")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PATH": "/usr/bin:/bin"},
        )
        for rank in range(degree)
    ]
    with ThreadPoolExecutor(degree) as pool:
        said = list(pool.map(lambda rank: rank.communicate(json.dumps(configs))[0], ranks))
    assert [rank.returncode for rank in ranks] == [0] * degree
    return json.loads(said[0])


@pytest.mark.slow
def test_every_carried_family_split_in_two_is_the_whole_model(tmp_path: Path) -> None:
    configs = {family: _config(family) for family in parallel.CARRIED}
    configs["copies of a head"] = _config("llama", num_key_value_heads=1)
    configs["own head"] = _config("llama", tie_word_embeddings=False)
    configs["biases"] = _config("llama", attention_bias=True, mlp_bias=True)
    found = _split_run(2, configs, tmp_path)
    assert set(found) == set(configs)
    assert {name: (error < 1e-5, same) for name, (error, same) in found.items()} == dict.fromkeys(
        configs, (True, True)
    ), found


def test_smollm2_divides_by_one_and_three_and_two_is_refused_with_both() -> None:
    assert valid_degrees(SMOLLM2) == (1, 3)
    with pytest.raises(Unsupported, match="which 1 or 3 would") as refused:
        require_degree(SMOLLM2, 2)
    assert "attention heads 9, key/value heads 3" in str(refused.value)


def test_copies_of_key_value_heads_count_as_valid() -> None:
    assert valid_degrees(_config("llama")) == (1, 2, 4)


def test_a_family_that_is_not_carried_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="this is bloom"):
        require_degree({"model_type": "bloom", "num_attention_heads": 4}, 2)


def test_a_layer_that_does_not_divide_as_its_plan_says_is_refused() -> None:
    # Its norms reach over all heads of a layer, so one rank cannot compute them alone.
    config = skeleton.read_config(_config("olmo2"))
    local = skeleton.read_config(
        _config("olmo2", num_attention_heads=2, num_key_value_heads=1, intermediate_size=24)
    )
    model = skeleton.build(local, torch.float32)
    with pytest.raises(Unsupported, match="ways that are not carried"):
        sharding.join_ranks(model, config, 2)


@pytest.mark.parametrize("degree", [2, 3, 4])
@pytest.mark.parametrize(
    ("shape", "axis", "parts"),
    [((12, 5), 0, 0), ((7, 5), 0, 0), ((5, 12), 1, 0), ((2, 5), 0, 1), ((5,), None, 1)],
)
def test_pieces_together_are_the_tensor(
    degree: int, shape: tuple[int, ...], axis: int | None, parts: int
) -> None:
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(degree))
    for first_only in {False, axis is None}:
        split = Split(axis=axis, parts=parts or degree, first_only=first_only, full=shape)
        pieces = [piece(whole, split, rank, degree) for rank in range(degree)]
        assert len({one.shape for one in pieces}) == 1
        assert torch.equal(merged(pieces, split), whole)
        if first_only:
            assert not any(bool(one.any()) for one in pieces[1:])
