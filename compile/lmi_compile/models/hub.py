"""Models of the Hugging Face hub: a revision becomes a commit, and only that commit is fetched.

`huggingface_hub` does the talking and finds the token (HF_TOKEN, or what `hf auth login` kept); the
token is never printed: what the library says in its errors is not repeated, only what it means.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, ModelFault, Transient
from lmi_compile.models.files import BESIDE, CONFIG
from lmi_compile.models.strict_json import read_object

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CHUNK = 8 << 20
_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a repository.

    Attributes:
        name: at the repository's root.
        size: bytes, or None where the hub does not say.
        sha256: of the content, where the hub keeps it outside git.
        blob: git's id of the content.
    """

    name: str
    size: int | None
    sha256: str | None
    blob: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Info:
    commit: str
    gated: bool
    files: tuple[HubFile, ...]


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", _ENDPOINT).rstrip("/")


def resolve_revision(model: str, revision: str | None) -> str:
    """Give the commit sha of a revision (a branch or tag; None is `main`).

    Raises:
        ModelFault: no such model or revision, or no right to it.
        EnvironmentFault: huggingface_hub is not installed.
        Transient: the hub did not answer.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    return _info(model, revision or "main").commit


def hub_config(model: str, revision: str | None, cache: Path) -> tuple[str, dict[str, JSONValue]]:
    """Give the commit of a revision and that commit's config.json, fetched once.

    Args:
        model: the model's id.
        revision: a commit, which asks nobody once its config is here; a branch or tag; None is
            `main`.
        cache: where configs are kept, one for each commit.

    Raises:
        ModelFault: there is no such model or config, or no right to it.
        EnvironmentFault: huggingface_hub is not installed.
        Transient: the hub did not answer.
    """
    commit = resolve_revision(model, revision)
    kept = cache / "hub-configs" / model.replace("/", "--") / f"{commit}.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder, _explained(model, commit):
            from huggingface_hub import hf_hub_download

            fetched = hf_hub_download(
                model, CONFIG, revision=commit, endpoint=_endpoint(), local_dir=folder
            )
            Path(fetched).replace(kept)
    return commit, read_object(kept)


def list_files(model: str, commit: str, accepted: str | None) -> tuple[HubFile, ...]:
    """List what is needed of a commit: safetensors, their index, config, tokenizer, licence.

    Raises:
        ModelFault: it has no safetensors, or as `resolve_revision`.
    """
    info = _info(model, commit)
    files = info.files
    if info.commit != commit:
        why = f"it answered with the commit {info.commit}"
        raise ModelFault(f"the hub did not give commit {commit} of {model}", why, "try again")
    if info.gated and not accepted:
        why = "its licence has to be accepted, and the recipe does not say that you do"
        fix = "read the licence, then name it in model.accept_license"
        raise ModelFault(f"{model} is gated", why, fix)
    names = {file.name for file in files}
    kept = tuple(file for file in files if _is_needed(file.name, names))
    if not any(file.name.endswith(".safetensors") for file in kept):
        pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        why = "it has no safetensors at its root"
        if pickles:
            why += f", only pickles, which run code when they are read: {', '.join(pickles[:4])}"
        fix = "name a revision or a repository with safetensors"
        raise ModelFault(f"{model} at {commit[:12]} cannot be used", why, fix)
    return kept


def _is_needed(name: str, names: set[str]) -> bool:
    if "/" in name:
        return False
    if name.endswith(".safetensors"):
        indexed = "model.safetensors.index.json" in names
        return indexed or name == "model.safetensors"
    return name == "model.safetensors.index.json" or any(fnmatchcase(name, one) for one in BESIDE)


def _info(model: str, revision: str) -> _Info:
    with _explained(model, revision):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=_endpoint()).model_info(model, revision=revision, files_metadata=True)
    files = tuple(
        HubFile(
            name=one.rfilename,
            size=one.size,
            sha256=one.lfs.sha256 if one.lfs is not None else None,
            blob=one.blob_id,
        )
        for one in info.siblings or ()
    )
    if info.sha is None or COMMIT.fullmatch(info.sha) is None:
        why = "the hub named no commit for it"
        raise ModelFault(f"{model}@{revision} cannot be pinned", why, "name a commit sha")
    return _Info(commit=info.sha, gated=bool(info.gated), files=files)


@contextmanager
def _explained(model: str, revision: str) -> Iterator[None]:
    """Say what the hub's refusals mean, without repeating what could hold a token or signed URL."""
    what = f"{model} at {revision[:40]} cannot be fetched from the hub"
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError:
        fix = "pip install 'lmi-compile[hub]'"
        raise EnvironmentFault(what, "huggingface_hub is not installed", fix) from None
    try:
        yield
    except errors.GatedRepoError:
        why = "403: it is gated, and this account has not been given access"
        fix = "accept its licence on the hub with the account of HF_TOKEN"
        raise ModelFault(what, why, fix) from None
    except errors.RevisionNotFoundError:
        raise ModelFault(what, "404: it has no such revision", "correct model.revision") from None
    except errors.RepositoryNotFoundError:
        why = "401 or 404: there is no such model, or it is private and the token gives no right"
        raise ModelFault(what, why, "check model.id; set HF_TOKEN for a private model") from None
    except errors.EntryNotFoundError:
        why = "404: a file that every model has is not in it"
        raise ModelFault(what, why, "name a repository with config.json") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in {401, 403}:
            why = f"{status}: the token is missing, wrong, or gives no right to this model"
            raise ModelFault(what, why, "set HF_TOKEN to a token that may read it") from None
        raise Transient(what, f"the hub answered {status}", "run again") from None
    except (OSError, getattr(errors, "HTTPError", OSError)) as error:
        raise Transient(what, f"no answer ({type(error).__name__})", "run again") from None


def fetch_commit(model: str, commit: str, accepted: str | None, out: Path) -> None:
    """Fetch a commit's files to `out`, each held against the hub's own digest of it.

    Args:
        model: the model's id.
        commit: 40 hex digits.
        accepted: the licence that the recipe accepts; a gated model needs one.
        out: an empty directory.

    Raises:
        ModelFault: the model cannot be used, or a file is not what the hub said.
        Transient: the hub did not answer.
    """
    for file in list_files(model, commit, accepted):
        with _explained(model, commit):
            from huggingface_hub import hf_hub_download

            fetched = hf_hub_download(
                model, file.name, revision=commit, endpoint=_endpoint(), local_dir=out / ".hub"
            )
        _check(Path(fetched), file, model)
        Path(fetched).rename(out / file.name)
        print(f"fetched {file.name}, {file.size} bytes", flush=True)  # noqa: T201 - a worker's progress
    _remove(out / ".hub")


def _check(path: Path, file: HubFile, model: str) -> None:
    size = path.stat().st_size
    hashed = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hashed.update(chunk)
            git.update(chunk)
    sound = hashed.hexdigest() == file.sha256 if file.sha256 else git.hexdigest() == file.blob
    if not sound:
        why = "its content is not what the hub's listing says"
        raise ModelFault(f"{file.name} of {model} is damaged", why, "run again")


def _remove(folder: Path) -> None:
    import shutil  # noqa: PLC0415 - only here

    shutil.rmtree(folder, ignore_errors=True)


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Worker function: brings one commit of a hub model.

    Args:
        params: `{"id": model, "revision": commit sha, "accept_license": name or None}`.
        inputs: none.
        out: an empty directory.

    Raises:
        ModelFault: as `fetch_commit`.
    """
    del inputs
    model, revision = str(params["id"]), params["revision"]
    if not isinstance(revision, str) or COMMIT.fullmatch(revision) is None:
        commit = resolve_revision(model, revision if isinstance(revision, str) else None)
        why = f"{revision or 'main'} is {commit} now, and may be another commit tomorrow"
        raise ModelFault(f"{model} is not pinned", why, f"set model.revision to {commit}")
    accepted = params.get("accept_license")
    fetch_commit(model, revision, str(accepted) if accepted else None, out)
