import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lmi_compile.errors import ModelFault
from lmi_compile.models.safetensors_header import (
    MAX_HEADER_BYTES,
    SafetensorsHeader,
    read_safetensors_header,
)

Build = Callable[[object, bytes], bytes]


def _read(data: bytes) -> SafetensorsHeader:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        return read_safetensors_header(Path(file.name))


def _why(data: bytes) -> str:
    with pytest.raises(ModelFault, match="not a sound safetensors file") as caught:
        _read(data)
    return caught.value.why


def _tensor(dtype: str, shape: object, *offsets: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    arrays = {"w": np.zeros((3, 5), np.float16), "b": np.zeros(7, np.int64), "e": np.zeros((0, 2))}
    save_file(arrays, path, metadata={"format": "np"})
    header = read_safetensors_header(path)
    assert header.metadata == {"format": "np"}
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {
        name: array.shape for name, array in arrays.items()
    }
    assert header.data_start + max(tensor.end for tensor in header.tensors) == path.stat().st_size


def test_a_missing_file_is_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="No such file"):
        read_safetensors_header(tmp_path / "none.safetensors")


def test_a_truncated_file_says_what_is_missing(sound_safetensors: bytes) -> None:
    assert "its tensors need 26 bytes, 23 are there: the file is truncated" in _why(
        sound_safetensors[:-3]
    )
    assert "its header needs" in _why(sound_safetensors[:40])
    assert "it has 5 bytes" in _why(sound_safetensors[:5])
    assert "2 bytes follow its last tensor" in _why(sound_safetensors + b"xx")


def test_a_header_length_is_not_believed() -> None:
    assert "not safetensors" in _why(struct.pack("<Q", 2**63) + b"{}")
    assert "not safetensors" in _why(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (_tensor("F32", [2], 0, 4), "needs 8 bytes, its offsets span 4"),
        (_tensor("F99", [1], 0, 4), "unknown dtype 'F99'"),
        (_tensor("F32", [-1], 0, 4), "no proper shape"),
        (_tensor("F32", [True], 0, 4), "no proper shape"),
        (_tensor("F32", [1.0], 0, 4), "no proper shape"),
        (_tensor("F32", [1] * 33, 0, 4), "no proper shape"),
        (_tensor("F32", [2**60, 2**60], 0, 4), "no proper shape"),
        (_tensor("F32", [1], 0), "no proper data_offsets"),
        (_tensor("F32", [1], 4, 0), "its offsets span -4"),
        (_tensor("F32", [1], 4, 8), "starts at byte 4, expected 0: it follows a gap"),
        (_tensor("F4", [3], 0, 1), "needs 1 bytes"),
        ([1], "not described by an object"),
    ],
)
def test_a_tensor_that_cannot_be_is_named(safetensors_of: Build, entry: object, why: str) -> None:
    found = _why(safetensors_of({"w": entry}, bytes(4)))
    assert "'w'" in found
    assert why in found


def test_tensors_that_share_bytes_are_refused(safetensors_of: Build) -> None:
    header = {"a": _tensor("F32", [2], 0, 8), "b": _tensor("F32", [1], 4, 8)}
    assert "overlaps the one before it" in _why(safetensors_of(header, bytes(8)))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"[]", "not a JSON object"),
        (b'{"a": 1,}', "not JSON at byte"),
        (b'{"\xff": 1}', "not UTF-8"),
        (b'{"a": {}, "a": {}}', "there twice"),
        (b'{"a": ' + b"[" * 50_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer"),
        (b'{"__metadata__": {"a": 1}}', "something other than text"),
        (b'{"__metadata__": []}', "__metadata__ is not an object"),
    ],
)
def test_a_header_that_is_not_one_is_refused(safetensors_of: Build, raw: bytes, why: str) -> None:
    assert why in _why(safetensors_of(raw, b""))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_gives_another_exception(sound_safetensors: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sound_safetensors)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        header = _read(bytes(damaged[:cut]))
    except ModelFault:
        return
    assert header.data_start + max((t.end for t in header.tensors), default=0) == cut


_FIELD = st.just("F32") | st.integers() | st.lists(st.integers(-1, 2**70), max_size=3)
_ENTRY = st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), _FIELD)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=4), _ENTRY | st.integers() | st.text() | st.none()))
def test_no_json_gives_another_exception(header: dict[str, object]) -> None:
    raw = json.dumps(header).encode()
    try:
        found = _read(struct.pack("<Q", len(raw)) + raw + bytes(8))
    except ModelFault:
        return
    assert found.tensors[-1].end == 8
