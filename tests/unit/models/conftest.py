"""Files that the tests of model sources are made of: written by hand or by the real packages."""

import base64
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest

MakeFile = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_llama(make_tiny_llama: MakeFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model directory; read only."""
    return make_tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_gguf(make_gguf: MakeFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound GGUF file; read only."""
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def make_gguf() -> MakeFile:
    return _make_gguf


@pytest.fixture(scope="session")
def make_wheel() -> MakeFile:
    return _make_wheel


@pytest.fixture(scope="session")
def safetensors_of() -> Callable[[object, bytes], bytes]:
    return _safetensors_of


@pytest.fixture(scope="session")
def sound_safetensors() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
        "c": {"dtype": "I64", "shape": [0], "data_offsets": [26, 26]},
    }
    return _safetensors_of(header, bytes(26))


def _safetensors_of(header: object, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def _make_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, bytes], licence: bytes = b"MIT\n"
) -> Path:
    """A real wheel, as pip finds it by PIP_FIND_LINKS."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    tags = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {
        **files,
        f"{info}/licenses/LICENSE": licence,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": tags,
    }
    record = "".join(
        f"{path},sha256={_record_digest(data)},{len(data)}\n" for path, data in content.items()
    )
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return wheel


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


_HIDDEN, _FEED, _HEADS, _KV = 64, 96, 4, 2
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_MERGES = ("Ġ Ġ", "Ċ Ċ", "ĊĊ Ġ", "ĊĊ ĠĠ", "t h", "th e")
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def _vocabulary() -> list[str]:
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in visible]
    alphabet = [chr(b) for b in visible] + [chr(256 + index) for index in range(len(other))]
    return [*_SPECIAL, *sorted(alphabet), *("".join(merge.split(" ")) for merge in _MERGES)]


def _make_gguf(
    path: Path, *, pre: str = "smollm", architecture: str = "llama", drop: str | None = None
) -> Path:
    """A GGUF of a random one-layer Llama with a byte-level tokenizer; Q8_0 and F32 tensors.

    Args:
        path: where to.
        pre: how the tokenizer splits text.
        architecture: what the file calls itself.
        drop: a tensor that is left out.
    """
    vocabulary = _vocabulary()
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(_HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(_HIDDEN // _HEADS)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * len(_SPECIAL) + [1] * (len(vocabulary) - len(_SPECIAL)))
    writer.add_token_merges(_MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_bool("tokenizer.ggml.add_bos_token", val=False)
    writer.add_chat_template(CHAT_TEMPLATE)
    random = np.random.default_rng(0)
    kv_width = _HIDDEN * _KV // _HEADS
    shapes = {
        "token_embd.weight": (len(vocabulary), _HIDDEN),
        "blk.0.attn_norm.weight": (_HIDDEN,),
        "blk.0.attn_q.weight": (_HIDDEN, _HIDDEN),
        "blk.0.attn_k.weight": (kv_width, _HIDDEN),
        "blk.0.attn_v.weight": (kv_width, _HIDDEN),
        "blk.0.attn_output.weight": (_HIDDEN, _HIDDEN),
        "blk.0.ffn_norm.weight": (_HIDDEN,),
        "blk.0.ffn_gate.weight": (_FEED, _HIDDEN),
        "blk.0.ffn_up.weight": (_FEED, _HIDDEN),
        "blk.0.ffn_down.weight": (_HIDDEN, _FEED),
        "output_norm.weight": (_HIDDEN,),
    }
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(np.float32)
        if name == drop:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
