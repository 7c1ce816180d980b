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
    room.__name__: Path(str(room.__file__)).parent
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
    match step.run:
        case Call(function=function, params=params, data=data):
            run = {"function": function, "params": dict(params)}
            sources: dict[str, JSONValue] = dict(source_digests(function.partition(":")[0], data))
        case Argv(argv=argv):
            run, sources = {"argv": list(argv)}, {}
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


def source_digests(module: str, data: tuple[str, ...] = ()) -> dict[str, str]:
    """The sha256 of every source file that running `module` can reach, by path in its room.

    Args:
        module: dotted name of the module that is run.
        data: dotted names of packages whose whole folder is read as data.
    """
    files = dict(source_closure(module))
    for package in data:
        folder = _folder(package)
        files |= {
            _label(path): path
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    return {label: _digest(path) for label, path in sorted(files.items())}


def source_closure(module: str) -> dict[str, Path]:
    """`module` and all that it imports from the four rooms, package `__init__` files included."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = module_file(name)
        if path is None or _label(path) in found:
            continue
        found[_label(path)] = path
        waiting += _imports(path)
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


def module_file(name: str) -> Path | None:
    """The source file of a module of the four rooms; None for a name that is no module."""
    folder = _folder(name)
    for path in (folder.with_suffix(".py"), folder / "__init__.py"):
        if path.is_file():
            return path
    return None


def _folder(name: str) -> Path:
    room, _, rest = name.partition(".")
    root = _ROOMS[room]
    return root.joinpath(*rest.split(".")) if rest else root


def _label(path: Path) -> str:
    room = next(root for root in _ROOMS.values() if path.is_relative_to(root))
    return f"{room.name}/{path.relative_to(room).as_posix()}"


@cache
def _digest(path: Path) -> str:
    return digest_bytes(path.read_bytes()).hex


@cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_imported_names(path.read_text(encoding="utf-8")))


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
