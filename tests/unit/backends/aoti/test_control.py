"""The negative control: static W8A8 without smoothing is refused where activations have outliers.

A random Llama is given outlier channels as language models have them: some weights of each norm
are large, and the columns behind them small by the same factor, so that the model is the same.
"""

import math
from typing import Any

import torch

from lmi_compile.backends.aoti import linears, quantised, skeleton
from lmi_compile.backends.aoti.forms import form_of
from lmi_compile.backends.aoti.ranges import observe
from lmi_compile.backends.aoti.storing import Quantiser, Ranges
from lmi_verify.gates import gates_for

SIZES: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
OUTLIER, CHANNELS = 60.0, (3, 17, 40)


def _model() -> Any:
    model = skeleton.build(skeleton.read_config(SIZES), torch.float32)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * drawn if "norm" in name else drawn * 0.12)
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for norm, readers in (
                (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
            ):
                for channel in CHANNELS:
                    norm.weight[channel] *= OUTLIER
                    for reader in readers:
                        reader.weight[:, channel] /= OUTLIER
    model.set_attn_implementation("sdpa")
    return model


def _quantised(ranges: Ranges, alpha: float | None) -> Any:
    form = form_of("smoothquant", (), per_token=False)
    held = {name: tensor.clone() for name, tensor in _model().state_dict().items()}
    quantiser = Quantiser(read=held.__getitem__, form=form, ranges=ranges, alpha=alpha)
    model = _model()
    quantised.quantise(model, form)
    linears.set_rows(model, "many")
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith(".packed"):
                tensor.copy_(quantiser.tensor(name, tensor.dtype))
    for name, module in model.named_modules():
        if isinstance(module, quantised.IntegerLinear):
            weight = quantiser.tensor(f"{name}.weight", torch.int8)
            module.packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return model


def test_smoothing_keeps_the_gate_and_its_absence_does_not() -> None:
    generator = torch.Generator().manual_seed(5)
    samples = [torch.randint(0, 300, (48,), generator=generator) for _ in range(6)]
    exact = _model()
    ranges = observe(_model(), samples[:4])
    limits = {gate.metric: gate.limit for gate in gates_for("float32", "smoothquant-static", {})}
    found: dict[float | None, float] = {}
    for alpha in (0.8, None):
        model = _quantised(ranges, alpha)
        with torch.no_grad():
            pairs = [
                (exact(one[None]).logits[0].log_softmax(-1), model(one[None]).logits[0])
                for one in samples[4:]
            ]
        divergences = [
            (right.exp() * (right - logits.log_softmax(-1))).sum(-1).mean()
            for right, logits in pairs
        ]
        found[alpha] = float(torch.stack(divergences).mean())
    assert found[0.8] <= limits["kl_mean"] < found[None]
    assert math.isfinite(found[None])
