"""Doors to strangers with something behind them: the HTTP server, registries, clients, trees."""

import asyncio
import io
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cache, partial
from pathlib import Path
from typing import Any

from readers import Target
from starlette.types import ASGIApp

from lmi_artifacts.directory import FolderRegistry
from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.evidence import tested
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.neuron_cache import flags_keys
from lmi_artifacts.static_proof import CONTRACTS, newest_image, prove_static
from lmi_artifacts.tree import scan_tree
from lmi_compile.backends.aoti.runtime.request import BadRequest, parse
from lmi_compile.client.pieces import documents, piece_of
from lmi_compile.errors import CompileError
from lmi_compile.matrix.history import FORMAT, read_runs
from lmi_compile.quantize.calibration import run as calibrate
from lmi_compile.serving.app import make_app
from lmi_compile.serving.engine import Engine
from lmi_compile.serving.limits import Limits
from lmi_compile.serving.metrics import Metrics
from lmi_compile.serving.process import Model
from lmi_compile.serving.template import ChatTemplate
from lmi_compile.settings import load_settings
from lmi_recipes.errors import RecipesError
from lmi_recipes.naming import DATA
from lmi_recipes.toolchain import load_toolchain, toolchain_names

_GOLDEN = Path(__file__).parents[1] / "golden"
_PARAMETERS = {"max_new_tokens": 2, "do_sample": False, "details": True, "stop": ["x"], "seed": 1}
_LMI = (
    {"inputs": "a b", "parameters": _PARAMETERS, "stream": False},
    {"inputs": "a b", "parameters": {"max_new_tokens": 3}, "stream": True},
    {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2},
)
_CHAT = (
    {"model": "m", "max_tokens": 2, "temperature": 0, "messages": [
        {"role": "system", "content": "brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
    {"messages": [{"role": "user", "content": "x"}], "stream": True, "logprobs": True,
     "stream_options": {"include_usage": True}, "stop": ["a", "b"]},
)  # fmt: skip
_COMPLETION = (
    {"model": "m", "prompt": "a b", "max_tokens": 2, "logprobs": 1, "stop": "x"},
    {"prompt": ["a b"], "stream": True},
)
_PATHS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "/invocations": _LMI,
    "/predictions/m": _LMI,
    "/generate": _LMI[:1],
    "/": _LMI[:2],
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
    "/endpoints/m/invocations-response-stream": _LMI,
}


class _Worker:
    """Reads a request as the packaged runtime does, and answers it with two tokens."""

    ready = True

    def __init__(self) -> None:
        self.model = Model(name="m", max_batch_size=1, max_seq_len=96, takes="texts", threads=1)
        self.on_told: Callable[[Mapping[str, Any]], None] = print
        self.on_end: Callable[[], None] = print

    async def write(self, asked: Mapping[str, Any]) -> bool:
        one = {"id": asked["id"]}
        try:
            parse(asked["body"])
        except BadRequest as error:
            self.on_told({**one, "error": {"code": 400, "error": str(error)}})
            return True
        self.on_told({**one, "prompt": 2})
        for number, text in enumerate(("c", " \U0001f600d")):
            token = {"id": number, "text": text, "log_prob": -0.5}
            self.on_told({**one, "token": token})
        self.on_told({**one, "done": {"finish_reason": "length", "text": "c d"}})
        return True

    def write_soon(self, asked: Mapping[str, Any]) -> bool:
        del asked
        return True


@cache
def _app(folder: Path) -> ASGIApp:
    """The server's application over that worker, with a chat template in `folder`."""
    logging.disable(logging.CRITICAL)
    return make_app(Engine(_Worker(), Limits(), Metrics()), ChatTemplate(folder))


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def _post(folder: Path, path: str, raw: bytes, _scratch: Path) -> object:
    """One request through the server's own application; 500 is harm."""
    sent: list[dict[str, Any]] = []

    async def ask() -> None:
        body = iter([{"type": "http.request", "body": raw, "more_body": False}])

        async def receive() -> dict[str, Any]:
            found = next(body, None)
            if found is None:
                await asyncio.Event().wait()  # the client stays until it is answered
            return found or {}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
                 "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                 "root_path": "", "scheme": "http", "headers": [(b"host", b"x")],
                 "client": ("h", 1), "server": ("h", 2)}  # fmt: skip
        await _app(folder)(scope, receive, send)

    _runner().run(ask())
    status = sent[0]["status"]
    assert status < 500, (status, sent)  # the server's fault
    if status >= 400:  # the client's fault, said in JSON
        json.loads(b"".join(one.get("body", b"") for one in sent[1:]))
        raise BadRequest(str(status))
    return status


def _answer(raw: bytes, _scratch: Path) -> object:
    """What a foreign server streams back, cut into blocks anywhere."""
    blocks = [raw[at : at + 37] for at in range(0, len(raw), 37)]
    return [piece_of(document) for document in documents(blocks)]


def _registry_file(kept: Path, name: str, raw: bytes, scratch: Path) -> object:
    """Everything a reader asks of a registry in which one file is damaged."""
    root = scratch / "registry"
    shutil.copytree(kept, root)
    (root / name).write_bytes(raw)
    registry = FolderRegistry(root)
    registry.list()
    registry.find_action("ab" * 32)
    ref = registry.resolve("fuzzed:latest")
    registry.inspect(ref)
    registry.check(ref, rehash=True)
    return registry.pull(ref, scratch / "pulled", trust_remote_code=True)


def _history(raw: bytes, scratch: Path) -> object:
    registry = FolderRegistry(scratch / "registry")
    registry.add_record("runs/20260101t000000z-aa.json", raw)
    return list(read_runs(registry))


def _tree(contract: str, name: str, raw: bytes, scratch: Path) -> object:
    """A served tree of a foreign toolchain, with one file that is damaged."""
    path = scratch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return prove_static(scratch, contract, newest_image(contract)).broken


def _calibration(raw: bytes, scratch: Path) -> object:
    (scratch / "given").mkdir()
    (scratch / "given" / "a.jsonl").write_bytes(raw)
    (scratch / "out").mkdir()
    params = {"dataset": "given", "num_samples": 2, "max_seq_len": 4, "seed": 1}
    with redirect_stdout(io.StringIO()):
        return calibrate(params, {"dataset": scratch / "given"}, scratch / "out")


def _settings(raw: bytes, scratch: Path) -> object:
    (scratch / "config.toml").write_bytes(raw)
    return load_settings({}, {"LMI_CONFIG": str(scratch / "config.toml")})


def _toolchain(raw: bytes, scratch: Path) -> object:
    (scratch / "mine.yaml").write_bytes(raw)
    return load_toolchain("mine", (scratch,))


def _published(root: Path) -> dict[str, bytes]:
    """A registry with one artifact; its files by name."""
    tree = root.parent / "tree"
    (tree / "config").mkdir(parents=True)
    (tree / "config" / "a.json").write_bytes(b"{}")
    fields = json.loads((_GOLDEN / "manifest-v2.json").read_bytes())
    fields |= {"name": "fuzzed", "files": [file.to_json() for file in scan_tree(tree)]}
    manifest = Manifest.parse(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
    verdict = tested(manifest, "verdict", "ACCEPT", "ACCEPT")
    registry = FolderRegistry(root)
    registry.publish(tree, manifest, statements=(verdict,), tags=("latest",), action_key="ab" * 32)
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def doors(scratch: Path) -> tuple[Target, ...]:
    """Every one of them, with its samples."""
    (scratch / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    )
    registry = (ArtifactsError,)
    files = _published(scratch / "published" / "registry")
    http = [
        Target(f"POST {path}", partial(_post, scratch, path),
               [json.dumps(body).encode() for body in bodies], (BadRequest,), 2)
        for path, bodies in _PATHS.items()
    ]  # fmt: skip
    damaged = [
        Target(f"registry {name.split('/')[0]} {number}",
               partial(_registry_file, scratch / "published" / "registry", name),
               [raw or b"{}"], registry, 1)
        for number, (name, raw) in enumerate(sorted(files.items()))
    ]  # fmt: skip
    trees = [
        Target(f"{contract} {name}", partial(_tree, contract, name), _CONFIGS, (), 1)
        for contract in CONTRACTS
        for name in _FILES[contract.partition("-")[0]]
    ]
    return (
        *http,
        *damaged,
        *trees,
        Target("answer of a server", _answer, _ANSWERS, (), 3),
        Target("matrix run", _history, [_RUN], registry, 1),
        Target("neuron flags", lambda raw, _: flags_keys(raw.decode("utf-8", "replace")),
               [b'["--target=trn1"]'], (), 1),
        Target("calibration", _calibration, [b'{"text": "a b c"}\n{"text": "d"}\n'],
               (CompileError,), 1),
        Target("settings", _settings, [b'registry = "s3://b/p"\noffline = true\n'],
               (CompileError,), 1),
        Target("toolchain", _toolchain, [_toolchain_text(name) for name in toolchain_names()],
               (RecipesError,), 2),
    )  # fmt: skip


def _toolchain_text(name: str) -> bytes:
    text = (DATA / "toolchains" / f"{name}.yaml").read_text(encoding="utf-8")
    return re.sub(r"(?m)^name: .*$", "name: mine", text).encode()


_FILES = {
    "djl": ("config.json",),
    "neuron": ("config.json", "neuron_config.json", "lmi-neuron.json"),
    "trtllm": ("config.json", "1/config.json"),
}
_RUN = json.dumps({"format": FORMAT, "id": "a", "builds": {"a": {"state": "green"}}}).encode()
_CONFIGS = [
    b'{"build_config": {}, "pretrained_config": {"mapping": {"world_size": 2, "tp_size": 2}}}',
    b'{"neuron_config": {"tp_degree": 2, "save_sharded_checkpoint": true, "target": "inf2"}}',
    b'{"graphs": [{"neff": "a"}], "trace": {"import": "m"}, "cache_keys": ["a"]}',
    b'{"neuron": {"auto_cast_type": "bf16", "num_cores": 2, "batch_size": 1}}',
]
_ANSWERS = [
    b'{"token": {"id": 1, "text": "a"}}\n{"token": {"id": 2}, "generated_text": "a"}\n',
    b'{"generated_text": "ab", "details": {"finish_reason": "length", "generated_tokens": 2}}\n',
    b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\ndata: [DONE]\n',
    b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": 1}}',
    b'[{"generated_text": "ab", "details": {"generated_tokens": 2}}]',
]
