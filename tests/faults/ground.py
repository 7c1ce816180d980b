"""What the battery stands on: models, their references and baselines, each made once."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from answering import Questions
from engine import Engine, wiring_of
from parts import Form, Parts
from safetensors.torch import load_file, save_file
from tiny_llama import make_tiny_llama
from tokenizers import Tokenizer
from transformers import AutoConfig

from lmi_compile.cli.options import registry_of, tools_of
from lmi_compile.console import Console
from lmi_compile.plan import make_plan
from lmi_compile.settings import load_settings
from lmi_compile.stepping import run_steps
from lmi_compile.survey import load, survey
from lmi_verify import baseline
from lmi_verify.jsonread import JSONValue
from lmi_verify.prompts import load_prompts
from lmi_verify.reference import write_reference

# Of prompt set v2: those of its batch, the repeated ones, one that ends, one of the corpus.
PROMPTS = frozenset(
    {
        "one-token", "latin-short", "cjk", "code", "chat", "chat-stop", "open", "half-length",
        "corpus-carroll", "full-length", "latin-short-again", "cjk-again",
    }
)  # fmt: skip
_RECIPE = "smollm2-135m-instruct-cpu"
_BIAS = 0.02  # of a query's, key's or value's spread


@dataclass(frozen=True, kw_only=True)
class Build:
    """What a recipe asks for: the judge's dtype and method, the form that is right for it.

    Attributes:
        dtype, method: As gates know them.
        form: How the weights are stored.
        rounding: The baseline's; None where there is no baseline.
    """

    dtype: str
    method: str
    form: Form
    rounding: str | None


BUILDS: Mapping[str, Build] = {
    "float32": Build(dtype="float32", method="none", form=Form(), rounding=None),
    "bfloat16": Build(
        dtype="bfloat16", method="none", form=Form(dtype=torch.bfloat16), rounding="none"
    ),
    "int8": Build(
        dtype="float32", method="int8_wo", form=Form(stored="int8"), rounding="int8-rows"
    ),
    "fp8": Build(
        dtype="float32", method="fp8", form=Form(stored="e4m3", per_channel=False), rounding=None
    ),
}


@dataclass(kw_only=True)
class Ground:
    """Makes models and what the judge needs of them, and keeps it in `home`.

    Attributes:
        home: A folder of the battery's own.
        longest, forced: The most tokens of a prompt, and forced after one.
    """

    home: Path
    longest: int = 20
    forced: int = 3
    _asked: dict[str, Questions] = field(default_factory=dict)
    _parts: dict[str, Parts] = field(default_factory=dict)

    def model(self, name: str) -> Path:
        """A Hugging Face directory: `smollm2`, a variant of it, `tiny-N`, or `tiny-window`."""
        path = self.home / "models" / name
        if not path.exists():
            aside = path.with_name(f"{name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            if name == "tiny-window":
                _window(self.model("tiny-0"), aside)
            elif name.startswith("tiny-"):
                make_tiny_llama(aside, seed=int(name.removeprefix("tiny-")))
            else:
                _VARIANTS[name](_smollm2(), aside)
            aside.rename(path)
        return path

    def reference(self, name: str) -> Path:
        """The float32 reference's outputs."""

        def make(out: Path) -> None:
            known = load_prompts("v2")
            chosen = tuple(each for each in known.prompts if each.id in PROMPTS)
            params: dict[str, JSONValue] = {
                "max_input_len": self.longest,
                "max_seq_len": self.longest + self.forced,
                "forced_tokens": self.forced,
                "trust_remote_code": False,
            }
            write_reference(replace(known, prompts=chosen), params, self.model(name), out)

        return self._once(f"reference-{name}", make)

    def baseline(self, name: str, build: Build) -> Path | None:
        """The outputs of the model in the build's own numbers, where the plan has them."""
        if build.rounding is None:
            return None

        def make(out: Path) -> None:
            params: dict[str, JSONValue] = {
                "dtype": build.dtype,
                "rounding": build.rounding,
                "trust_remote_code": False,
            }
            inputs = {"model": self.model(name), "reference": self.reference(name)}
            baseline.run(params, inputs, out)

        return self._once(f"baseline-{name}-{build.dtype}-{build.rounding}", make)

    def asked(self, name: str) -> Questions:
        """What the model's reference asks."""
        if name not in self._asked:
            self._asked[name] = Questions.read(self.reference(name))
        return self._asked[name]

    def parts(self, name: str, build: Build) -> Parts:
        """A right build of the model."""
        if name not in self._parts:
            self._parts[name] = _parts(self.model(name))
        parts = self._parts[name]
        if build.method == "fp8" and parts.wiring.fp8_ranges is None:
            ranges = measured_ranges(parts, self.asked(name))
            parts = parts.changed(wiring={"fp8_ranges": ranges})
            self._parts[name] = parts
        wiring = {} if build.method == "fp8" else {"fp8_ranges": None}
        return parts.changed(wiring=wiring, form=build.form)

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self.home / f"{name}-{self.longest}-{self.forced}"
        if not path.exists():
            aside = path.with_name(f"{path.name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            make(aside)
            aside.rename(path)
        return path


def measured_ranges(parts: Parts, asked: Questions) -> dict[str, float]:
    """By linear layer, the largest input that the prompts give it in float32."""
    engine = _Watching(parts.weights, parts.wiring)
    for prompt in asked.prompts:
        engine.prefill([prompt.input_ids + prompt.forced_ids])
    return engine.ranges


class _Watching(Engine):
    """An engine that notes how large the inputs of its linear layers become."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.ranges: dict[str, float] = {}

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        self.ranges[name] = max(self.ranges.get(name, 0.0), float(x.abs().max()))
        return super()._linear(name, x)


def _parts(directory: Path) -> Parts:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ends = json.loads((directory / "generation_config.json").read_bytes())["eos_token_id"]
    return Parts(
        weights=load_file(directory / "model.safetensors"),
        form=Form(),
        wiring=wiring_of(AutoConfig.from_pretrained(directory)),
        encode=lambda text: list(tokenizer.encode(text).ids),
        piece=lambda token: str(tokenizer.decode([token], skip_special_tokens=False)),
        eos_token_ids=tuple(ends) if isinstance(ends, list) else (ends,),
    )


def _smollm2() -> Path:
    """The real model, through the product's own steps."""
    settings = load_settings({})
    console = Console(quiet=True)
    plan = make_plan(survey(load(_RECIPE), settings.cache_dir))
    tools = tools_of(settings, registry_of(settings), console)
    return run_steps(plan, "model", tools, {})["model"]


def _linked(source: Path, out: Path) -> None:
    out.mkdir()
    for file in source.iterdir():
        (out / file.name).symlink_to(file)


def _with_config(source: Path, out: Path, **changes: object) -> None:
    _linked(source, out)
    config = json.loads((source / "config.json").read_bytes()) | changes
    (out / "config.json").unlink()
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _scaled_rope(source: Path, out: Path) -> None:
    """Llama 3's way of stretching positions, over the same weights."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 100000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    _with_config(source, out, rope_parameters=rope)


def _window(source: Path, out: Path) -> None:
    """Mistral is a Llama with a sliding window."""
    _with_config(
        source, out, model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=10
    )


def _biased(source: Path, out: Path) -> None:
    """Biases beside every attention projection, as Qwen 2 has them."""
    _with_config(source, out, attention_bias=True)
    weights = load_file(source / "model.safetensors")
    drawn = torch.Generator().manual_seed(0)
    for name in [name for name in weights if "self_attn" in name]:
        matrix = weights[name]
        spread = float(matrix.square().sum(1).mean().sqrt())
        bias = torch.randn(len(matrix), generator=drawn) * (spread * _BIAS)
        weights[name.replace(".weight", ".bias")] = bias
    (out / "model.safetensors").unlink()
    save_file(weights, out / "model.safetensors", {"format": "pt"})


_VARIANTS: Mapping[str, Callable[[Path, Path], None]] = {
    "smollm2": _linked,
    "scaled-rope": _scaled_rope,
    "window": _window,
    "biased": _biased,
}
