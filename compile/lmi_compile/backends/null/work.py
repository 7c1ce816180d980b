"""What the null backend's steps do: small deterministic files, no heavy import."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue, canonical_json
from lmi_compile.backends.null.served.null_runtime import Loaded
from lmi_compile.errors import ToolFailed
from lmi_verify.verdict import Check, Decision, Verdict

_SERVED = Path(__file__).parent / "served"
_TABLE_BYTES = 4096


def model(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Write the model: the text that names it."""
    del inputs
    (out / "model.json").write_bytes(canonical_json({"id": params["id"]}))


def compile_table(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Turn the model and the shapes into a table of bytes."""
    settings = {**params, "table_bytes": _TABLE_BYTES}
    (out / "runtime.json").write_bytes(canonical_json(settings))
    (out / "table.dat").write_bytes(_table(inputs["model"], params))


def package(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Lay the served tree out."""
    del params
    for name in ("runtime.json", "table.dat"):
        shutil.copyfile(inputs["compile"] / name, out / name)
    for name in ("model.py", "null_runtime.py"):
        shutil.copyfile(_SERVED / name, out / name)
    properties = {
        "engine": "Python",
        "minWorkers": "1",
        "maxWorkers": "1",
        "option.entryPoint": "model.py",
        "option.rolling_batch": "disable",
        "option.async_mode": "false",
    }
    lines = "".join(f"{name}={value}\n" for name, value in properties.items())
    (out / "serving.properties").write_text(lines, encoding="ascii")


def reference(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Answer the prompts from the model itself, past all packaging."""
    scratch = out / "scratch"
    scratch.mkdir()
    shapes = params["shapes"]
    compile_table(shapes if isinstance(shapes, Mapping) else {}, inputs, scratch)
    loaded = Loaded(scratch)
    tokens, prompts = params["tokens"], params["prompts"]
    if not isinstance(tokens, int) or not isinstance(prompts, list):
        message = "prompts and tokens are not what the plan says"
        raise TypeError(message)
    answers: list[JSONValue] = [list(loaded.generate(str(text), tokens)) for text in prompts]
    shutil.rmtree(scratch)
    (out / "prompts.json").write_bytes(canonical_json({"prompts": prompts, "tokens": tokens}))
    (out / "outputs.json").write_bytes(canonical_json({"generated_ids": answers}))


def candidate(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Answer the prompts through the packaged tree's own loader, in a child process."""
    del params
    argv = [sys.executable, str(inputs["package"] / "null_runtime.py")]
    files = [str(inputs["reference"] / "prompts.json"), str(out / "outputs.json")]
    ended = subprocess.run([*argv, *files], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        what = "the packaged tree does not load"
        raise ToolFailed(what, ended.stderr[-2000:])


def judge(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Compare both sides' ids; they must be equal."""
    sides = [
        json.loads((inputs[side] / "outputs.json").read_bytes())["generated_ids"]
        for side in ("reference", "candidate")
    ]
    verdict = ids_verdict(*sides, dtype=str(params["dtype"]))
    (out / "verdict.json").write_bytes(canonical_json(verdict.to_json()))


def ids_verdict(expected: list[list[int]], found: list[list[int]], *, dtype: str) -> Verdict:
    """ACCEPT when every prompt has the same ids on both sides."""
    differing = sum(a != b for a, b in zip(expected, found, strict=True))
    check = Check(
        metric="differing_prompts",
        measured=float(differing),
        limit=0.0,
        direction="at_most",
        passed=differing == 0,
        reason="a table of bytes has no noise",
        source="lmi_compile.backends.null",
        loosened=False,
        prompt=None,
    )
    decision: Decision = "ACCEPT" if check.passed else "REGRESSION"
    return Verdict(
        decision=decision,
        scope="generation",
        checks=(check,),
        summary=f"{decision}: {differing} of {len(expected)} prompts differ",
        dtype=dtype,
        method="none",
    )


def _table(model_step: Path, params: Mapping[str, JSONValue]) -> bytes:
    seed = (model_step / "model.json").read_bytes() + canonical_json(dict(params))
    blocks = (hashlib.sha256(seed + bytes([number])).digest() for number in range(128))
    return b"".join(blocks)[:_TABLE_BYTES]
