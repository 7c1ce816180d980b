"""The step `proof`: a packaged tree in, proof.json out."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.proof import prove as proving

OUTPUT = "proof.json"
_ROOM_BYTES = 1 << 20  # more than a trace of a whole run


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Proves the packaged tree `inputs["package"]` and writes `proof.json` into `out`.

    A refuted or skipped proof is an ordinary output: whoever publishes decides what it means. Not
    so on a full disk, where neither the observer nor the model could write: that shows nothing.

    Args:
        params: `prompt` (text), `max_new_tokens` (a whole number) and `timeout_seconds`, each with
            the default of `prove` where it is missing; or `request`, the whole body, in place of
            the first two.
        inputs: `package`, the served tree.
        out: an empty folder.

    Raises:
        OSError: the disk is full.
    """
    print(f"proving {inputs['package'].name}", flush=True)  # noqa: T201 - a step's progress is its stdout
    request = params.get("request")
    proof = proving.prove(
        inputs["package"],
        request=request if isinstance(request, dict) else None,
        prompt=str(params.get("prompt", proving.DEFAULT_PROMPT)),
        max_new_tokens=int(str(params.get("max_new_tokens", proving.DEFAULT_NEW_TOKENS))),
        timeout_seconds=float(str(params.get("timeout_seconds", proving.DEFAULT_TIMEOUT_SECONDS))),
    )
    if proof.decision != "PROVEN" and shutil.disk_usage(out).free < _ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
    text = json.dumps(proof.to_json(), indent=2, ensure_ascii=False)
    (out / OUTPUT).write_text(text + "\n", encoding="utf-8")
    print(proof.line(), flush=True)  # noqa: T201 - a step's progress is its stdout
