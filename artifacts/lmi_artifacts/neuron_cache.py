"""Neuron's persistent compile cache: its layout, and its keys as far as they can be recomputed.

    neuronxcc-<version>+<commit>/MODULE_<graph key>+<flags key>/
        model.hlo_module.pb  compile_flags.json  model.neff  model.done (empty)
        model.log (a failed compile)  *.lock (a compile that runs, or died)

The flags key is the MD5 of the compiler's flags, eight digits: of `compile_flags.json`'s text, and
up to compiler 2.14 of the flags joined with blanks. libneuronxla, which writes it, is closed; both
forms were found by recomputing keys that public logs and documents show:
`["--target=trn1"]` e30acd3a (2.22.12471.0), `--model-type=transformer --auto-cast=none` 2c2d707e
(2.14.227.0), no flags d41d8cd9. The graph key is a hash inside libneuronxla, or
transformers-neuronx's of the graph's text form, which needs Neuron's own protobuf classes: it is
not recomputed. transformers-neuronx names a saved NEFF by the graph's bytes, and that is.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.foreign import parse_json

_ENTRY = re.compile(r"MODULE_(?P<graph>[0-9a-f]{1,20})\+(?P<flags>[0-9a-f]{8})")
_COMPILER = re.compile(r"neuronxcc-\d+(\.\d+)+\+\w+")
_GRAPH = "model.hlo_module.pb"
_FLAGS = "compile_flags.json"
_NEFF = "model.neff"
_FAILED = (".lock", "model.log")
_SHORT = 20  # digits of a SHA-256 that transformers-neuronx keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One compiled graph.

    Attributes:
        compiler: the folder of its compiler's build, which alone can use it.
        name: `MODULE_<graph key>+<flags key>`.
        folder: where it lies.
    """

    compiler: str
    name: str
    folder: Path

    @property
    def neff(self) -> Path:
        """Its compiled graph."""
        return self.folder / _NEFF

    @property
    def saved_name(self) -> str | None:
        """The file name under which transformers-neuronx looks for this graph's NEFF.

        Source: aws-neuron/transformers-neuronx @ 1ade6d74, base.py, hash_hlo.
        """
        graph = self.folder / _GRAPH
        if not graph.is_file():
            return None
        return f"{hashlib.sha256(graph.read_bytes()).hexdigest()[:_SHORT]}.neff"


def entries(root: Path) -> tuple[Entry, ...]:
    """Every entry of the caches under `root`, by compiler and name."""
    return tuple(
        Entry(compiler=folder.parent.name, name=folder.name, folder=folder)
        for folder in sorted(root.rglob("MODULE_*"))
        if folder.is_dir()
    )


def cache_problems(root: Path) -> Iterator[str]:
    """Why an endpoint that is given the caches under `root` would compile, or find a failure.

    Yields:
        one sentence for each; none means that every entry would be a hit under its key.
    """
    found = entries(root)
    compilers = sorted({entry.compiler for entry in found})
    if len(compilers) > 1:
        yield f"{', '.join(compilers)}: one compiler's build uses no entry of another's"
    for entry in found:
        where = entry.folder.relative_to(root).as_posix()
        for problem in _of(entry):
            yield f"{where}: {problem}"


def _of(entry: Entry) -> Iterator[str]:
    if not _COMPILER.fullmatch(entry.compiler):
        yield f"{entry.compiler} is no neuronxcc-<version>+<commit>"
    names = {path.name for path in entry.folder.iterdir()}
    for name in sorted(names):
        if name.endswith(_FAILED):
            yield f"{name}: a failed or locked cache entry; it would be found again and again"
    for name in (_NEFF, "model.done"):
        if name not in names:
            yield f"{name} is missing, so that it is no hit"
    match = _ENTRY.fullmatch(entry.name)
    if match is None:
        yield "it is not named MODULE_<graph key>+<flags key>"
    elif _FLAGS not in names:
        yield f"{_FLAGS} is missing; its key cannot be recomputed"
    elif match["flags"] not in flags_keys((entry.folder / _FLAGS).read_text(encoding="utf-8")):
        yield f"{_FLAGS} does not give the flags key {match['flags']}: it would not be found"


def flags_keys(text: str) -> frozenset[str]:
    """The keys that libneuronxla's releases give to flags.

    Args:
        text: `compile_flags.json`.
    """
    try:
        flags = parse_json(text)
    except ValueError:
        return frozenset()
    if not isinstance(flags, list):
        return frozenset()
    forms = (json.dumps(flags), " ".join(map(str, flags)))
    return frozenset(
        hashlib.md5(form.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:8]
        for form in forms
    )
