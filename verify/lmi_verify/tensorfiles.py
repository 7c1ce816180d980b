"""JSON and tensor files of a probe: what is wrong with them is collected and told at once."""

from pathlib import Path
from typing import TypeAlias

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
import numpy.typing as npt  # noqa: TID253 - as above
from safetensors import SafetensorError, safe_open  # noqa: TID253 - as above

from lmi_verify.errors import Malformed, OutputsUnusable
from lmi_verify.jsonread import Reader, parse_json

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]


def read_json(path: Path, owner: str = "") -> Reader:
    """A JSON file of format 1 or 2.

    Raises:
        OutputsUnusable: It is missing, or is not that.
    """
    name = f"{owner}{path.name}"
    if not path.is_file():
        raise OutputsUnusable((f"{name} is missing",))
    try:
        content = Reader(parse_json(path.read_bytes()), path.name)
        version = content.get("format")
    except (ValueError, Malformed) as error:
        raise OutputsUnusable((f"{name}: {error}",)) from error
    if version.value not in (1, 2):
        raise OutputsUnusable((f"{name}: format {version.value}, only 1 and 2 are known",))
    return content


class Tensors:
    """A safetensors file's index; collects every problem of the tensors asked for.

    Raises:
        OutputsUnusable: There is no such file, or it is truncated.
    """

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path = path
        self._name = f"{owner}{path.name}"
        self._problems: list[str] = []
        if not path.is_file():
            raise OutputsUnusable((f"{self._name} is missing",))
        try:
            with safe_open(path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                self._index = {
                    name: (each.get_dtype(), list(each.get_shape()))
                    for name, each in slices.items()
                }
        except SafetensorError as error:
            raise OutputsUnusable((f"{self._name}: {error}",)) from error

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._index

    def expect(self, name: str, *shapes: list[int]) -> None:
        """A float32 tensor of one of the shapes."""
        found = self._index.get(name)
        if found is None:
            self.problem(f"{name} is missing")
        elif found[0] != "F32" or found[1] not in shapes:
            wanted = " or ".join(map(str, shapes))
            self.problem(f"{name} is {found[0]} {found[1]}, not F32 {wanted}")

    def floats(self, name: str, count: int) -> tuple[float, ...]:
        """That many float32 numbers."""
        self.expect(name, [count])
        if self._index[name] != ("F32", [count]):
            return ()
        with safe_open(self.path, framework="numpy") as file:
            array: FloatArray = file.get_tensor(name)
        return tuple(float(each) for each in array)

    def ids(
        self, name: str, *, vocab: int | None = None, longest: int | None = None
    ) -> tuple[int, ...]:
        """Between one and `longest` ids of the vocabulary, an int64 tensor; empty if not."""
        dtype, shape = self._index.get(name, ("nothing", []))
        if dtype != "I64" or len(shape) != 1:
            self.problem(f"{name} is {dtype} {shape}, not I64 [n]")
            return ()
        with safe_open(self.path, framework="numpy") as file:
            array: IntArray = file.get_tensor(name)
        ids = tuple(int(each) for each in array)
        if not 1 <= len(ids) <= (longest or len(ids)):
            self.problem(f"{name} has {len(ids)} ids, not 1 to {longest or 'more'}")
        elif vocab is not None and not all(0 <= each < vocab for each in ids):
            self.problem(f"{name} has ids outside 0 to {vocab - 1}")
        return ids

    def done(self) -> None:
        """Raises what was found."""
        if self._problems:
            raise OutputsUnusable(tuple(self._problems))

    def problem(self, text: str) -> None:
        """Something that `done` will tell."""
        self._problems.append(f"{self._name}: {text}")
