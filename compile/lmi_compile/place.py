"""Whether the place where a call runs is the one that it was planned for.

A key holds the digests of our sources and the versions of this machine's libraries. A container
or a node of a cluster has its own: what differs would make other bytes under the same key.
"""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue, digest_json
from lmi_compile.errors import EnvironmentFault
from lmi_compile.host import MISSING, installed_version, read_host
from lmi_compile.keys import source_digests
from lmi_compile.step import Call, Step

_CHECKED = frozenset({"torch", "transformers"})


def expected_of(step: Step) -> dict[str, JSONValue]:
    """What the place of `step` must be like, as far as it decides the bytes.

    This machine; for a step in its toolchain's own image, the versions that the toolchain pins.
    """
    if not isinstance(step.run, Call):
        return {}
    names = sorted(_names(step.identity))
    here: dict[str, JSONValue] = {
        name: found for name in names if (found := _found(name)) != MISSING
    }
    return {
        "data": list(step.run.data),
        "sources": digest_json(_sources(step.run.function, step.run.data)).hex,
        "versions": here if step.image is None else _pinned(step.identity),
    }


def require_place(function: str, expected: Mapping[str, JSONValue]) -> None:
    """Hold this place against what another machine expected of it.

    Args:
        function: what is called.
        expected: as `expected_of` wrote it there.

    Raises:
        EnvironmentFault: our sources or a library are others than there.
    """
    data, versions = expected["data"], expected["versions"]
    named = tuple(map(str, data)) if isinstance(data, list) else ()
    if digest_json(_sources(function, named)).hex != expected["sources"]:
        what = "this place has other sources of lmi-compile than the machine that planned"
        raise EnvironmentFault(what, fix="install the same version in both")
    wanted = versions if isinstance(versions, Mapping) else {}
    wrong = [
        f"{name} {found}, not {version}"
        for name, version in wanted.items()
        if not _is(found := _found(name), str(version))
    ]
    if wrong:
        what = f"this place has {'; '.join(wrong)}"
        why = "the step's key says otherwise: it would hide other bytes under it"
        raise EnvironmentFault(what, why, "use an image or a node like the machine that plans")


def _sources(function: str, data: tuple[str, ...]) -> dict[str, JSONValue]:
    return dict(source_digests(function.partition(":")[0], data))


def _names(identity: Mapping[str, JSONValue]) -> set[str]:
    versions = identity.get("versions")
    return {*identity, *(versions if isinstance(versions, Mapping) else ())}


def _pinned(identity: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """Exact versions among what a key names: of Python's packages, and of Python itself."""
    versions = identity.get("versions")
    named = {**identity, **(versions if isinstance(versions, Mapping) else {})}
    return {name: named[name] for name in sorted(named) if name in _CHECKED}


def _is(found: str, wanted: str) -> bool:
    """Whether it is that version; `2.13.0+cpu` is 2.13.0 to whoever names no build tag."""
    return found == wanted or ("+" not in wanted and found.partition("+")[0] == wanted)


def _found(name: str) -> str:
    match name:
        case "compiler":
            return read_host().compiler
        case "libc":
            return read_host().libc
        case "python":
            return read_host().python
        case _:
            return installed_version(name)
