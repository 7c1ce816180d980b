"""SIMULATOR of `check_accuracy_logits_v2`: the real signature, and the shapes that it asks for.

No logits are computed. Expected logits that are all equal stand for a model that does not match.
"""

from typing import Any

from neuron_simulator import base


class LogitMatchingValidationError(Exception):
    """The real one's name."""


def check_accuracy_logits_v2(*positional: Any, **keywords: Any) -> dict[str, Any]:
    parameters = base.table("accuracy")["check_accuracy_logits_v2"]
    given = dict(zip(parameters, positional, strict=False)) | keywords
    unknown = [name for name in given if name not in parameters]
    missing = [
        name for name, value in parameters.items() if value == "required" and name not in given
    ]
    if unknown or missing:
        message = f"check_accuracy_logits_v2() {unknown} {missing}"
        raise TypeError(message)
    expected, ids = given["expected_logits"], given["inputs_input_ids"]
    config = given["neuron_model"].config
    room = config["neuron_config"]["seq_len"] - ids.shape[1]
    shape = (min(given["num_tokens_to_check"], room), ids.shape[0], config["vocab_size"])
    if tuple(expected.shape) != shape or given["inputs_attention_mask"].shape != ids.shape:
        message = f"expected_logits {tuple(expected.shape)}, not {shape}"
        raise ValueError(message)
    if bool((expected == expected.flatten()[0]).all()):
        message = "[simulator] these expected logits stand for a mismatch"
        raise LogitMatchingValidationError(message)
    return {}
