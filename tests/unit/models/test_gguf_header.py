import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmi_compile.errors import ModelFault
from lmi_compile.models import gguf_header
from lmi_compile.models.gguf_header import GgufHeader, read_gguf_header

MakeFile = Callable[..., Path]


def _read(data: bytes) -> GgufHeader:
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data)
        file.flush()
        return read_gguf_header(Path(file.name))


def _why(data: bytes) -> str:
    with pytest.raises(ModelFault, match="not a sound GGUF file") as caught:
        _read(data)
    return caught.value.why


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    dims = b"".join(struct.pack("<Q", dim) for dim in shape)
    return _text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset)


def _file(entries: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (), data: int = 0) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    raw = head + b"".join(entries) + b"".join(tensors)
    return raw + bytes(-len(raw) % 32 + data)


def test_a_file_of_the_gguf_package_is_read_as_that_package_reads_it(tiny_gguf: Path) -> None:
    header = read_gguf_header(tiny_gguf)
    reader = gguf.GGUFReader(tiny_gguf)
    assert {
        t.name: (t.type_name, t.offset + header.data_start, t.nbytes) for t in header.tensors
    } == {t.name: (t.tensor_type.name, t.data_offset, t.n_bytes) for t in reader.tensors}
    assert header.data_start == reader.data_offset
    assert header.text("tokenizer.ggml.pre") == "smollm"
    assert header.integer("tokenizer.ggml.eot_token_id") == 2
    assert header.flag("tokenizer.ggml.add_bos_token") is False
    assert header.integer("tokenizer.ggml.add_bos_token") is None
    assert header.text("no.such.key") is None
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert header.array_lengths["tokenizer.ggml.tokens"] == len(tokens)


def test_every_type_of_the_gguf_package_has_its_size() -> None:
    ours = {name: (block, size) for name, block, size in gguf_header._TYPES.values()}
    theirs = {kind.name: sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert ours == theirs
    assert {kind: entry[0] for kind, entry in gguf_header._TYPES.items()} == {
        int(kind): kind.name for kind in gguf.GGML_QUANT_SIZES
    }


def test_a_truncated_file_says_how_many_bytes_are_missing(tiny_gguf: Path) -> None:
    whole = tiny_gguf.read_bytes()
    short = len(whole) - 100
    why = _why(whole[:short])
    assert "its tensors end at byte" in why
    assert f"the file has {short} bytes: it is truncated" in why
    assert "its header needs byte" in _why(whole[:1000])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "its header needs byte 4, the file has 0 bytes"),
        (b"ggml" + bytes(20), "not with b'GGUF'"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "its version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), f"{2**40} tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), f"{2**63} metadata"),
        (_file((_entry("a", 4, bytes(4)),) * 2), "'a' is there twice"),
        (_file((_entry("a", 99, bytes(4)),)), "have type 99"),
        (_file((_entry("a", 8, struct.pack("<Q", 2**62)),)), "a text before byte"),
        (_file((_entry("a", 9, struct.pack("<IQ", 8, 2**60)),)), "truncated"),
        (_file((_entry("a", 9, struct.pack("<IQ", 10, 2**60)),)), "truncated"),
        (_file((_entry("a", 9, struct.pack("<IQ", 9, 1) * 6),)), "nested too deeply"),
        (_file((_entry("split.count", 2, struct.pack("<H", 3)),)), "one part of several"),
        (_file((_entry("general.alignment", 4, bytes(4)),)), "its alignment is '0'"),
        (_file(tensors=(_tensor("w", (1,) * 5, 0, 0),)), "'w' has 5 dimensions"),
        (_file(tensors=(_tensor("w", (1,), 77, 0),)), "the unknown type 77"),
        (_file(tensors=(_tensor("w", (31,), 3, 0),)), "of Q4_1 has the shape [31]"),
        (_file(tensors=(_tensor("w", (2**40, 2**40), 0, 0),)), "has the shape"),
        (_file(tensors=(_tensor("w", (1,), 0, 1),), data=64), "not aligned to 32"),
        (_file(tensors=(_tensor("w", (1,), 0, 0),) * 2, data=64), "the same name"),
        (
            _file(tensors=(_tensor("w", (16,), 0, 0), _tensor("x", (1,), 0, 32)), data=99),
            "'x' overlaps",
        ),
    ],
)
def test_what_is_no_gguf_says_why(data: bytes, why: str) -> None:
    assert why in _why(data)


def test_a_missing_file_is_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="No such file"):
        read_gguf_header(tmp_path / "none.gguf")


SMALL = _file(
    (
        _entry("general.architecture", 8, _text("llama")),
        _entry("flag", 7, b"\x01"),
        _entry("eps", 6, struct.pack("<f", 1e-5)),
        _entry("names", 9, struct.pack("<IQ", 8, 2) + _text("one") + _text("two")),
        _entry("nested", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 3) + b"abc"),
    ),
    (_tensor("w", (32, 2), 3, 0), _tensor("b", (2,), 0, 64)),
    72,
)


def test_the_small_file_is_sound() -> None:
    header = _read(SMALL)
    assert header.scalars["flag"] is True
    assert header.array_lengths == {"names": 2, "nested": 1}
    assert [tensor.nbytes for tensor in header.tensors] == [40, 8]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_gives_another_exception(data: st.DataObject) -> None:
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        header = _read(bytes(damaged[:cut]))
    except ModelFault:
        return
    ends = [header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors]
    assert max(ends, default=0) <= cut
