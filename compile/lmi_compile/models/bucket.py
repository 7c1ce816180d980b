"""Models in a bucket: what is there now is named by ETag, and only exactly that is fetched."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactsError, RegistryTransient
from lmi_compile.errors import CompileError, EnvironmentFault, ModelFault, Transient
from lmi_compile.models.files import BESIDE, CONFIG, INDEX
from lmi_compile.models.strict_json import read_object

_PART = 8 << 20


def list_bucket(url: str) -> dict[str, JSONValue]:
    """List a model's files at an `s3://` URL: name -> `{"size", "etag"}`.

    Raises:
        ModelFault: there is no model.
        EnvironmentFault: no credentials, no right, no boto3.
        Transient: the server did not answer.
    """
    try:
        from lmi_artifacts.s3.address import parse_address  # noqa: PLC0415 - loads boto3
        from lmi_artifacts.s3.store import Store  # noqa: PLC0415 - as above

        store = Store(parse_address(url))
        listed = list(store.list(""))
    except (ArtifactsError, ModuleNotFoundError) as error:
        raise _fault(url, error) from error
    names = {entry.key for entry in listed}
    found: dict[str, JSONValue] = {
        entry.key: {"size": entry.size, "etag": entry.etag}
        for entry in listed
        if "/" not in entry.key and _is_needed(entry.key, INDEX in names)
    }
    if not any(name.endswith((".safetensors", ".gguf")) for name in found):
        why = f"there is: {', '.join(sorted(names)[:12]) or 'nothing'}"
        raise ModelFault(f"{_shown(url)} holds no safetensors and no GGUF", why, "correct model.id")
    return found


def _is_needed(name: str, indexed: bool) -> bool:  # noqa: FBT001 - one caller
    if name.endswith(".safetensors"):
        return indexed or name == "model.safetensors"
    return name.endswith(".gguf") or name == INDEX or any(fnmatchcase(name, one) for one in BESIDE)


def bucket_config(url: str, files: Mapping[str, JSONValue]) -> dict[str, JSONValue] | None:
    """Read the config.json that was listed; None where there is none, beside a GGUF.

    Raises:
        ModelFault: it has changed since, or is malformed.
        EnvironmentFault: no credentials, no right.
        Transient: the server did not answer.
    """
    if CONFIG not in files:
        return None
    with tempfile.TemporaryDirectory() as folder:
        fetch_bucket(url, {CONFIG: files[CONFIG]}, Path(folder), lambda _: None)
        return read_object(Path(folder, CONFIG))


def fetch_bucket(
    url: str, files: Mapping[str, JSONValue], out: Path, say: Callable[[str], None]
) -> None:
    """Fetch the files that a plan named, each exactly in the version it named.

    Raises:
        ModelFault: one has changed since.
        EnvironmentFault: no credentials, no right.
        Transient: the server did not answer.
    """
    from lmi_artifacts.s3.address import parse_address  # noqa: PLC0415 - loads boto3
    from lmi_artifacts.s3.client import Refused  # noqa: PLC0415 - as above
    from lmi_artifacts.s3.store import Store  # noqa: PLC0415 - as above

    store = Store(parse_address(url))
    buffer = memoryview(bytearray(_PART))
    for name, entry in sorted(files.items()):
        if not isinstance(entry, Mapping) or not isinstance(entry["size"], int):
            raise TypeError(name)
        size, etag = entry["size"], str(entry["etag"])
        hashed = hashlib.sha256()
        try:
            with (out / name).open("xb") as writer:
                for start in range(0, size, _PART):
                    piece = buffer[: size - start]
                    store.read_into(name, start, piece, etag)
                    hashed.update(piece)
                    writer.write(piece)
        except Refused:
            why = "it has another ETag than when the build was planned"
            raise ModelFault(f"{name} at {_shown(url)} has changed", why, "run again") from None
        except ArtifactsError as error:
            raise _fault(url, error) from error
        say(f"fetched {name}, {size} bytes, sha256 {hashed.hexdigest()}")


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Worker function: brings a model from a bucket.

    Args:
        params: `{"url": ..., "files": {name: {"size", "etag"}}}`.
        inputs: none.
        out: an empty directory.

    Raises:
        ModelFault: a file has changed since it was planned.
    """
    del inputs
    files = params["files"]
    if not isinstance(files, Mapping):
        raise TypeError(files)
    url = str(params["url"])
    if not files:
        why = "it could not be listed when the build was planned"
        raise EnvironmentFault(f"{_shown(url)} is not pinned", why, "plan again with credentials")
    fetch_bucket(url, files, out, partial(print, flush=True))


def _shown(url: str) -> str:
    return url.partition("?")[0]


def _fault(url: str, error: Exception) -> CompileError:
    what = f"the model at {_shown(url)} cannot be read"
    if isinstance(error, RegistryTransient):
        return Transient(what, str(error), "run again")
    if isinstance(error, ModuleNotFoundError):
        return EnvironmentFault(what, f"{error.name} is missing", "pip install 'lmi-compile[s3]'")
    return EnvironmentFault(what, str(error), "correct the setting that is named")
