"""The handler of a traced model, for SageMaker's PyTorch inference toolkit.

`model_fn`, `input_fn`, `predict_fn` and `output_fn` are the toolkit's own names. A request holds
the inputs by name (`{"input_ids": [[...]], ...}`, `{"pixel_values": ...}`) or, where the tree has a
tokenizer, texts (`{"inputs": "..." | [...]}`). Every graph has one shape: fewer rows and shorter
texts are filled up, more and longer ones are refused. Python 3.9 and later.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - runs in the serving container

_JSON = "application/json"


class RequestRefused(ValueError):
    """The request does not fit the compiled shape; the message says what does."""


class Loaded:
    """A traced model, what it takes, and its tokenizer where the tree has one."""

    def __init__(self, directory: Path) -> None:
        self.description: dict[str, Any] = json.loads((directory / "lmi-neuron.json").read_bytes())
        trace = self.description["trace"]
        # Without this import the graph's own operator is unknown: neuron::forward.
        importlib.import_module(trace["module"])
        self.model = torch.jit.load(str(directory / "model.pt"))  # type: ignore[no-untyped-call]  # as shipped
        self.inputs: list[dict[str, Any]] = trace["inputs"]
        self.tokenizer = _tokenizer(directory)

    @property
    def rows(self) -> int:
        """Rows of every graph."""
        return int(self.inputs[0]["shape"][0])


def model_fn(model_dir: str, context: object = None) -> Loaded:
    """Loads the tree; nothing is compiled here."""
    del context
    return Loaded(Path(model_dir))


def input_fn(body: "str | bytes", content_type: str = _JSON, context: object = None) -> Any:
    """The request as JSON.

    Raises:
        RequestRefused: it is of another type, or no JSON object.
    """
    del context
    if content_type.split(";", maxsplit=1)[0].strip() != _JSON:
        message = f"content type {content_type}: send {_JSON}"
        raise RequestRefused(message)
    try:
        asked = json.loads(body)
    except ValueError as error:
        message = f"the request is not JSON: {error}"
        raise RequestRefused(message) from error
    if not isinstance(asked, dict):
        message = "the request must be a JSON object"
        raise RequestRefused(message)
    return asked


def predict_fn(asked: "dict[str, Any]", loaded: Loaded, context: object = None) -> Any:
    """The model's outputs for the rows that were asked for, as tensors.

    Raises:
        RequestRefused: the request does not fit the compiled shape.
    """
    del context
    named = _from_texts(asked["inputs"], loaded) if "inputs" in asked else asked
    known = [spec["name"] for spec in loaded.inputs]
    unknown = sorted(set(named) - set(known))
    if unknown or known[0] not in named:
        message = (
            f"a request holds {', '.join(known)}, or inputs; not {', '.join(unknown) or 'that'}"
        )
        raise RequestRefused(message)
    tensors = [_fitted(named, spec) for spec in loaded.inputs]
    rows = len(named[known[0]])
    with torch.no_grad():
        given = loaded.model(*tensors)
    outputs = given if isinstance(given, (tuple, list)) else (given,)
    return [each[:rows] if each.shape[:1] == (loaded.rows,) else each for each in outputs]


def output_fn(prediction: Any, accept: str = _JSON, context: object = None) -> "tuple[str, str]":
    """The outputs as JSON lists."""
    del accept, context
    return json.dumps({"outputs": [each.tolist() for each in prediction]}), _JSON


def _fitted(named: "dict[str, Any]", spec: "dict[str, Any]") -> torch.Tensor:
    """One input, filled up to its compiled shape."""
    name, shape, dtype = spec["name"], spec["shape"], getattr(torch, spec["dtype"])
    filled = torch.zeros(shape, dtype=dtype)
    if name not in named:
        if name == "attention_mask":
            rows = named["input_ids"]
            for row, ids in enumerate(rows):
                filled[row, : len(ids)] = 1
        return filled
    try:
        given = [torch.as_tensor(row, dtype=dtype) for row in named[name]]
    except (TypeError, ValueError) as error:
        message = f"{name} must be a list of rows of numbers: {error}"
        raise RequestRefused(message) from error
    if len(given) > shape[0]:
        message = f"{name} has {len(given)} rows; this graph takes {shape[0]}"
        raise RequestRefused(message)
    for row, values in enumerate(given):
        wanted = list(shape[1:])
        if len(wanted) == 1 and values.dim() == 1 and len(values) <= wanted[0]:
            filled[row, : len(values)] = values
        elif list(values.shape) == wanted:
            filled[row] = values
        else:
            message = f"row {row} of {name} has the shape {list(values.shape)}, not {wanted}"
            raise RequestRefused(message)
    return filled


def _from_texts(texts: Any, loaded: Loaded) -> "dict[str, Any]":
    if loaded.tokenizer is None:
        message = "this tree has no tokenizer; send the inputs by name"
        raise RequestRefused(message)
    listed = [texts] if isinstance(texts, str) else list(texts)
    encoded = [loaded.tokenizer.encode(text) for text in listed]
    named = {"input_ids": [each.ids for each in encoded]}
    if any(spec["name"] == "token_type_ids" for spec in loaded.inputs):
        named["token_type_ids"] = [each.type_ids for each in encoded]
    return named


def _tokenizer(directory: Path) -> Any:
    path = directory / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ImportError:
        return None
    return tokenizers.Tokenizer.from_file(str(path))
