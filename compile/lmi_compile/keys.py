"""Keys: everything that decides a step's bytes, and nothing else, as one sha256.

The source files that a call runs are found by reading `import` lines, not by importing them, so
that planning stays light; `tests/house` holds this against a syntax-tree walk.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import lmi_artifacts
import lmi_compile
import lmi_recipes
import lmi_verify
from lmi_artifacts.digest import JSONValue, digest_bytes, digest_json
from lmi_compile.step import Argv, Call, Step

_ROOMS = {
    room.__name__: str(room.__file__).rpartition("/")[0]
    for room in (lmi_compile, lmi_recipes, lmi_artifacts, lmi_verify)
}
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(lmi_\w+(?:\.\w+)*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)"
    r"|import[ \t]+(lmi_\w+(?:\.\w+)*))",
    re.MULTILINE,
)


def key_ingredients(
    step: Step, keys: Mapping[str, str], extra: Mapping[str, str] | None = None
) -> dict[str, JSONValue]:
    """Everything that enters `step`'s key, as JSON.

    Args:
        step: the step.
        keys: the keys of the steps it needs, by name.
        extra: other digests that decide the bytes.
    """
    run: dict[str, JSONValue]
    sources: dict[str, JSONValue]
    match step.run:
        case Call(function=function, params=params, data=data):
            run = {"function": function, "params": dict(params)}
            sources = source_digests(function.partition(":")[0], data)
        case Argv(argv=argv):
            run = {"argv": list(argv)}
            sources = {}
    return {
        "run": run,
        "env": dict(step.env),
        "outputs": list(step.outputs),
        "needs": {name: keys[name] for name in step.needs},
        "toolchain": dict(step.identity),
        "sources": sources,
        **(dict(extra) if extra else {}),
    }


def step_key(ingredients: Mapping[str, JSONValue]) -> str:
    """The 256-bit key, as 64 hex digits."""
    return digest_json(dict(ingredients)).hex


@cache
def source_digests(module: str, data: tuple[str, ...] = ()) -> dict[str, JSONValue]:
    """The sha256 of every source file that running `module` can reach, by path in its room.

    Read once per process; thousands of steps share one answer, which nobody changes.

    Args:
        module: dotted name of the module that is run.
        data: dotted names of packages whose whole folder is read as data.
    """
    files = set(source_closure(module)).union(*map(_files_in, data))
    return {file: _digest(file) for file in sorted(files)}


@cache
def source_closure(module: str) -> tuple[str, ...]:
    """`module` and all that it imports from the four rooms, package `__init__` files included.

    Returns:
        the files, each as its room's name and the path in it: `lmi_compile/keys.py`.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = module_file(name)
        if file is None or file in found:
            continue
        found.add(file)
        waiting += _imports(file)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return tuple(sorted(found))


@cache
def module_file(name: str) -> str | None:
    """The source file of a module of the four rooms; None for a name that is no module."""
    base = name.replace(".", "/")
    if "/" in base and path_of(f"{base}.py").is_file():
        return f"{base}.py"
    package = f"{base}/__init__.py"
    return package if path_of(package).is_file() else None


def path_of(file: str) -> Path:
    """Where a file that is named by its room lies on this machine."""
    room, _, rest = file.partition("/")
    return Path(f"{_ROOMS[room]}/{rest}")


def _files_in(package: str) -> tuple[str, ...]:
    folder = path_of(package.replace(".", "/"))
    return tuple(
        f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


@cache
def _digest(file: str) -> str:
    return digest_bytes(path_of(file).read_bytes()).hex


@cache
def _imports(file: str) -> tuple[str, ...]:
    return tuple(_imported_names(path_of(file).read_text(encoding="utf-8")))


def _imported_names(source: str) -> Iterator[str]:
    for package, names, module in _IMPORT.findall(source):
        if (package or module).partition(".")[0] not in _ROOMS:
            continue
        if module:
            yield module
            continue
        yield package
        for name in names.strip("()").split(","):
            yield f"{package}.{name.split(' as ')[0].strip()}"
