"""Brings a model from the Hugging Face hub, at one commit, and says why when it cannot."""

import os
import shutil
from pathlib import Path

from lmi_compile.errors import CompileError, EnvironmentFault, ModelFault, Transient

_WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "LICEN[CS]E*", "NOTICE*")
_COMMIT_DIGITS = 40
_UNAUTHORISED = 401
_FORBIDDEN = 403
_MISSING = 404


def fetch_hub(model_id: str, revision: str, out: Path) -> None:
    """Downloads the safetensors model `model_id` at the commit `revision`.

    Args:
        model_id: owner/name.
        revision: a whole commit sha, so that the files are the same for ever.
        out: an empty directory.

    Raises:
        ModelFault: the model is not there, is gated, or names no commit.
        EnvironmentFault: the client is missing, or the network may not be used.
        Transient: the hub did not answer.
    """
    if len(revision) != _COMMIT_DIGITS:
        raise ModelFault(
            what=f"model {model_id} names no commit",
            why=f"model.revision is {revision or 'not given'}; a branch moves under a build",
            fix="write the commit sha of the model's repository as model.revision",
        )
    if os.environ.get("PIP_NO_INDEX"):
        what = f"model {model_id} is on the hub, and the run is offline"
        raise EnvironmentFault(what, fix="name a local directory, or run without --offline")
    os.environ.pop("HF_HUB_OFFLINE", None)  # steps run offline; this one is there to download
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        what = "the hub's client is not installed"
        raise EnvironmentFault(what, fix="pip install lmi-compile[hub]") from error
    try:
        snapshot_download(model_id, revision=revision, local_dir=out, allow_patterns=list(_WANTED))
    except Exception as error:
        raise explain(model_id, error) from error
    shutil.rmtree(out / ".cache", ignore_errors=True)


def explain(model_id: str, error: Exception) -> CompileError:
    """What a client's error means, by the hub's HTTP status."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if status in {_UNAUTHORISED, _FORBIDDEN}:
        return ModelFault(
            what=f"the hub refuses model {model_id} (HTTP {status})",
            why="it is gated or private, and "
            + (
                "no token was given" if status == _UNAUTHORISED else "the token has no access to it"
            ),
            fix="accept its licence on its page, then `huggingface-cli login`, or set HF_TOKEN",
        )
    if status == _MISSING:
        return ModelFault(f"the hub has no model {model_id} at this commit", why, "check model.id")
    return Transient(f"the hub did not give model {model_id}", why, "try again")
