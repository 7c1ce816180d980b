"""The step `proof`: a packaged tree in, proof.json out."""

import json
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.proof import prove as proving

OUTPUT = "proof.json"


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Proves the packaged tree `inputs["package"]` and writes `proof.json` into `out`.

    A refuted or skipped proof is an ordinary output: whoever publishes decides what it means.

    Args:
        params: `prompt` (text), `max_new_tokens` (a whole number) and `timeout_seconds`, each with
            the default of `prove` where it is missing.
        inputs: `package`, the served tree.
        out: an empty folder.
    """
    print(f"proving {inputs['package'].name}", flush=True)  # noqa: T201 - a step's progress is its stdout
    proof = proving.prove(
        inputs["package"],
        prompt=str(params.get("prompt", proving.DEFAULT_PROMPT)),
        max_new_tokens=int(str(params.get("max_new_tokens", proving.DEFAULT_NEW_TOKENS))),
        timeout_seconds=float(str(params.get("timeout_seconds", proving.DEFAULT_TIMEOUT_SECONDS))),
    )
    text = json.dumps(proof.to_json(), indent=2, ensure_ascii=False)
    (out / OUTPUT).write_text(text + "\n", encoding="utf-8")
    print(proof.line(), flush=True)  # noqa: T201 - a step's progress is its stdout
