"""SmolLM2-135M's checkpoints on a CPU: TP 1 and 3, unquantised, SmoothQuant 0.8, FP8, FP8 KV.

Each goes the user's way (`lmi-compile RECIPE --until checkpoint`) and has to be ACCEPTed; TP 3
merges to TP 1's bits. Minutes: `make checkpoints`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from lmi_compile.quantize.checkpoint import read_merged
from lmi_recipes.catalog import find_recipe
from lmi_recipes.reading import read_recipe

CALIBRATION = "calibration: {dataset: python-language-reference, num_samples: 32, max_seq_len: 256}"
FORMATS = {
    "float16": "{method: none}",
    "smoothquant": "{method: smoothquant, smoothquant: {alpha: 0.8, per_token: false},"
    f" {CALIBRATION}}}",
    "fp8": f"{{method: fp8, {CALIBRATION}}}",
    "fp8-kv": f"{{method: fp8, kv_cache_dtype: fp8, {CALIBRATION}}}",
}


def main() -> None:
    """Make them all; exit 1 at the first that is not accepted."""
    model = read_recipe(find_recipe("smollm2-135m-instruct-cpu")).recipe.model
    with tempfile.TemporaryDirectory() as folder:
        for name, quantization in FORMATS.items():
            checkpoints = []
            for degree in (1, 3):
                recipe = Path(folder) / f"{name}-{degree}.yaml"
                recipe.write_text(
                    f"apiVersion: lmi-compile/v1\nname: smollm2-{name}-tp{degree}\n"
                    f"model: {{id: '{model.id}', sha256: {model.sha256}, config: smollm2.json}}\n"
                    "backend: tensorrt-llm\ntoolchain: trtllm-1.2.1\ndtype: float16\n"
                    f"target: {{instance_type: ml.g6.12xlarge}}\nquantization: {quantization}\n"
                    f"tensor_parallel_degree: {degree}\n"
                    "shapes: {max_batch_size: 4, max_input_len: 384, max_seq_len: 512}\n",
                    encoding="utf-8",
                )
                config = find_recipe("null-demo").parent / "configs/smollm2-135m-instruct.json"
                (Path(folder) / "smollm2.json").write_bytes(config.read_bytes())
                checkpoints.append(_run(recipe))
            one, three = (read_merged(path).tensors for path in checkpoints)
            same = all(torch.equal(_bits(one[key]), _bits(three[key])) for key in one)
            print(f"{name}: TP 3 merges to TP 1's bits: {same}", flush=True)
            assert same


def _run(recipe: Path) -> Path:
    command = [sys.executable, "-m", "lmi_compile", str(recipe), "--until", "checkpoint", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    built = json.loads(done.stdout)
    assert built.get("decision") == "ACCEPT", built
    return Path(built["path"])


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor


if __name__ == "__main__":
    main()
