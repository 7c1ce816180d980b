"""Perplexity, KL and top-1 agreement with the float32 model, on a text that calibration never saw.

    python benchmarks/quality.py MODEL TREE [--text FILE] [--windows 8] [--tokens 256]
    python benchmarks/quality.py MODEL --ranges DIR --form smoothquant,token,0.5 --form int8_wo

MODEL is the Hugging Face directory. TREE is a packaged tree: the loader inside it makes the
logits, through prefill. With --form METHOD[,token or static[,ALPHA]], the layers that the graphs
are traced from run eagerly instead, with the same kernels: a preview that needs no compilation.
Prints one JSON object per candidate.
"""

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from lmi_compile.backends.aoti import linears, quantised, skeleton
from lmi_compile.backends.aoti.forms import Form, form_of
from lmi_compile.backends.aoti.ranges import read_ranges
from lmi_compile.backends.aoti.storing import Quantiser, Ranges

TEXT = Path("tests/fixtures/texts/python-reference-evaluation.txt")
Run = Callable[[torch.Tensor], torch.Tensor]


def windows(model: Path, text: Path, number: int, length: int) -> Iterator[torch.Tensor]:
    """The first windows of the text, token ids `[length]` each."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = tokenizer.encode(text.read_text(encoding="utf-8"), add_special_tokens=False).ids
    assert len(ids) >= number * length, "the text is too short"
    for index in range(number):
        yield torch.tensor(ids[index * length : (index + 1) * length])


def eager(folder: Path) -> Run:
    """The float32 model."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return lambda ids: model(input_ids=ids[None], use_cache=False).logits[0]


def packaged(tree: Path) -> Run:
    """The compiled prefill graph, every row, through the loader that the tree brings."""
    name = f"served_{abs(hash(tree.resolve()))}"
    folder = tree / "lmi_aoti_runtime"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    graphs = importlib.import_module(f"{name}.graphs").Graphs(tree)
    return lambda ids: graphs.prefill(ids, torch.arange(len(ids)))


def previewed(folder: Path, form: Form, ranges: Ranges, alpha: float | None) -> Run:
    """The layers of a form with a checkpoint's numbers, without a graph."""
    model = skeleton.build(AutoConfig.from_pretrained(folder), torch.float32)
    model.set_attn_implementation("sdpa")
    held = load_file(folder / "model.safetensors")
    quantised.quantise(model, form)
    linears.set_rows(model, "many")
    kept = set(model.state_dict())
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    types = {name: tensor.dtype for name, tensor in tensors.items()}
    quantiser = Quantiser(
        read=lambda name: held[name].float(), form=form, ranges=ranges, stored=types, alpha=alpha
    )
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in kept and not name.endswith(".packed"):
                tensor.copy_(quantiser.tensor(name, tensor.dtype))
    for name, module in model.named_modules():
        if isinstance(module, quantised.IntegerLinear):
            weight = quantiser.tensor(f"{name}.weight", torch.int8)
            module.packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return lambda ids: model(input_ids=ids[None], use_cache=False).logits[0]


def measure(exact: list[torch.Tensor], run: Run, samples: list[torch.Tensor]) -> dict[str, float]:
    """The candidate against the float32 logits of the same samples."""
    loss = base = divergence = agreed = 0.0
    count = 0
    start = time.process_time()
    with torch.no_grad():
        for ids, right in zip(samples, exact, strict=True):
            found = run(ids).float().log_softmax(-1)[:-1]
            expected = right.log_softmax(-1)[:-1]
            target = ids[1:, None]
            loss -= float(found.gather(1, target).sum())
            base -= float(expected.gather(1, target).sum())
            divergence += float((expected.exp() * (expected - found)).sum())
            agreed += float((found.argmax(-1) == expected.argmax(-1)).sum())
            count += len(target)
    perplexity, reference = math.exp(loss / count), math.exp(base / count)
    return {
        "perplexity": round(perplexity, 4),
        "perplexity_float32": round(reference, 4),
        "change_percent": round(100 * (perplexity / reference - 1), 2),
        "kl_mean": round(divergence / count, 5),
        "top1_percent": round(100 * agreed / count, 2),
        "tokens": count,
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("trees", type=Path, nargs="*")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--form", action="append", default=[])
    parser.add_argument("--ranges", type=Path)
    parser.add_argument("--flags", default="avx2")
    given = parser.parse_args()
    samples = list(windows(given.model, given.text, given.windows, given.tokens))
    reference = eager(given.model)
    with torch.no_grad():
        exact = [reference(ids).float() for ids in samples]
    for tree in given.trees:
        told = {"candidate": tree.name, **measure(exact, packaged(tree), samples)}
        print(json.dumps(told), flush=True)
    for text in given.form:
        method, _, rest = text.partition(",")
        how, _, alpha = rest.partition(",")
        form = form_of(method, given.flags.split(","), per_token=how != "static")
        ranges = read_ranges(given.ranges) if form.calibrated else Ranges()
        run = previewed(given.model, form, ranges, float(alpha) if alpha else None)
        print(json.dumps({"preview": text, **measure(exact, run, samples)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
