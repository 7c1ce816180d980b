"""Process start to first token: HF eager, torch.compile cold and warm, and our artifact.

All four read the same float32 weights, take the same prompt and run on the same number of
threads; each is a fresh process. `cold` has an empty inductor cache every time, `warm` one that
an earlier run filled; both compile in their own process (TORCHINDUCTOR_COMPILE_THREADS=1), so
that no compile worker's CPU time is lost from the count. Goals: at least 2.5 times fewer CPU
seconds than eager, 20 times fewer than cold. Run it as
`.venv/bin/python benchmarks/startup.py [--rounds N] [--threads N]`; it builds the artifact first.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measure import Run, alternate, print_table, run

RECIPE = "smollm2-135m-instruct-cpu"
PROMPT = "The capital of France is"

EAGER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt, jit = sys.argv[1:4]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
options = {}
if jit == "jit":
    model.forward = torch.compile(model.forward)
    options = {"cache_implementation": "static", "disable_compile": True}
ids = tokenizer(prompt, return_tensors="pt")
with torch.inference_mode():
    out = model.generate(**ids, max_new_tokens=1, do_sample=False, **options)
print(tokenizer.decode(out[0, -1:]))
"""

OURS = """
import json, sys
from pathlib import Path
tree, prompt = sys.argv[1:3]
sys.path.insert(0, tree)
from lmi_aoti_runtime.service import Service
body = {"inputs": prompt, "parameters": {"max_new_tokens": 1}}
service = Service(Path(tree))
print(service.answer(*service.read(json.dumps(body).encode()))["generated_text"])
"""


def _build(env: dict[str, str]) -> tuple[Path, Path]:
    """The served tree and the HF directory of the recipe's model."""
    program = [sys.executable, "-m", "lmi_compile"]
    built = subprocess.run(
        [*program, RECIPE, "--json"], env=env, check=True, stdout=subprocess.PIPE
    )
    until = subprocess.run(
        [*program, RECIPE, "--until", "model", "--json"],
        env=env,
        check=True,
        stdout=subprocess.PIPE,
    )
    return Path(json.loads(built.stdout)["path"]), Path(json.loads(until.stdout)["path"])


def _cold(argv: list[str], env: dict[str, str], folder: Path) -> Run:
    cache = folder / "cold"
    shutil.rmtree(cache, ignore_errors=True)
    return run(argv, {**env, "TORCHINDUCTOR_CACHE_DIR": str(cache)})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without-jit", action="store_true", help="only eager and ours: seconds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {
            **os.environ,
            "OMP_NUM_THREADS": str(asked.threads),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        tree, model = _build({**env, "LMI_OUT": os.environ.get("LMI_OUT", str(folder / "out"))})
        eager = [sys.executable, "-c", EAGER, str(model), PROMPT, "eager"]
        jit = [*eager[:-1], "jit"]
        ours = [sys.executable, "-c", OURS, str(tree), PROMPT]
        warm = {**env, "TORCHINDUCTOR_CACHE_DIR": str(folder / "warm")}
        variants = {"our artifact": partial(run, ours, env), "HF eager": partial(run, eager, env)}
        if not asked.without_jit:
            run(jit, warm)
            variants["torch.compile, warm cache"] = partial(run, jit, warm)
            variants["torch.compile, cold"] = partial(_cold, jit, env, folder)
        found = alternate(variants, asked.rounds, warm_up=1 if asked.without_jit else 0)
    print(f"threads: {asked.threads}, prompt: {PROMPT!r}, to the first token")
    print_table(found, "our artifact")
    print("goals: HF eager 2.5 or more, torch.compile cold 20 or more")


if __name__ == "__main__":
    main()
