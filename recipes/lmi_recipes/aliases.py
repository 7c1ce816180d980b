"""The ecosystem's words for our fields and values, read as ours and noted once each.

Sources: LMI `option.*`, trtllm-build, vLLM, optimum-neuron, NxDI and Truss. An alias may stand
beside the field it means or in any section around it: `max_num_seqs` at the top as in `shapes`.
"""

from collections.abc import Iterator

from lmi_recipes.nodes import Entry, Node, Path, dotted, plain
from lmi_recipes.problems import Problem, at, shown

# Field -> other words for it. A word that starts with `^` is the field's own name, given in a
# section around its own.
_WORDS = {
    "quantization": "quantize quant",
    "tensor_parallel_degree": (
        "tp tp_size tp_degree tensor_parallel_size tensor_parallel_count tensor_parallel"
    ),
    "pipeline_parallel_degree": (
        "pp pp_size pp_degree pipeline_parallel_size pipeline_parallel_count pipeline_parallel"
    ),
    "dtype": "torch_dtype data_type",
    "model.id": "model_id repo",
    "model.revision": "^revision",
    "model.task": "^task",
    "model.trust_remote_code": "^trust_remote_code",
    "target.instance_type": "^instance_type",
    "shapes.max_batch_size": "^max_batch_size max_rolling_batch_size max_num_seqs batch_size",
    "shapes.max_input_len": "^max_input_len max_input_length max_context_length",
    "shapes.max_seq_len": (
        "^max_seq_len max_model_len max_seq_length seq_len sequence_length n_positions"
    ),
    "shapes.max_num_tokens": (
        "^max_num_tokens max_num_batched_tokens max_rolling_batch_prefill_tokens"
    ),
    "shapes.buckets": "^buckets",
    "shapes.buckets.prefill": "context_encoding_buckets",
    "shapes.buckets.decode": "token_generation_buckets",
    "quantization.method": "quant_method quantization_method",
    "quantization.kv_cache_dtype": "^kv_cache_dtype kv_cache_quant_algo",
    "quantization.smoothquant": "^smoothquant smooth_quant",
    "quantization.smoothquant.alpha": "smoothquant_alpha smoothquant_val",
    "quantization.smoothquant.per_token": "smoothquant_per_token",
    "quantization.smoothquant.per_channel": "smoothquant_per_channel",
    "quantization.fp8.per_token": "fp8_per_token",
    "quantization.calibration": "^calibration calib",
    "quantization.calibration.dataset": "calib_dataset",
    "quantization.calibration.num_samples": "calib_size num_calib_samples",
    "quantization.calibration.max_seq_len": "calib_max_seq_length max_seq_length",
    "quantization.calibration.seed": "random_seed",
}

_DTYPES = {
    "fp32": "float32",
    "float": "float32",
    "f32": "float32",
    "fp16": "float16",
    "half": "float16",
    "f16": "float16",
    "bf16": "bfloat16",
}
_DTYPES |= {f"torch.{name}": name for name in ("float32", "float16", "bfloat16")}
_METHODS = {
    "off": "none",
    "smooth_quant": "smoothquant",
    "sq": "smoothquant",
    "int8_sq": "smoothquant",
    "w8a8": "smoothquant",
    "w8a8_sq": "smoothquant",
    "fp8_e4m3": "fp8",
    "w8a8_fp8": "fp8",
    "int8_weight_only": "int8_wo",
    "static_int8": "int8_wo",
    "w8a16": "int8_wo",
    "int4_weight_only": "int4_wo",
    "w4a16": "int4_wo",
    "int4_awq": "awq",
    "w4a16_awq": "awq",
    "int4_gptq": "gptq",
    "w4a16_gptq": "gptq",
}
_BACKENDS = {
    "aotinductor": "aoti",
    "aot_inductor": "aoti",
    "trt": "tensorrt-llm",
    "trtllm": "tensorrt-llm",
    "trt_llm": "tensorrt-llm",
    "tensorrt_llm": "tensorrt-llm",
    "neuronx": "neuron",
}
_LAYOUTS = {
    "tar": "tar.gz",
    "tgz": "tar.gz",
    "model.tar.gz": "tar.gz",
    "s3_prefix": "prefix",
    "uncompressed": "prefix",
}
_VALUES: dict[Path, dict[str, str]] = {
    ("dtype",): _DTYPES,
    ("backend",): _BACKENDS,
    ("quantization", "method"): _METHODS,
    ("quantization", "kv_cache_dtype"): {"fp8_e4m3": "fp8", "none": "auto"},
    ("package", "layouts"): _LAYOUTS,
}
# Sections that may be one plain word, and the field that the word is.
_SHORT = {"model": "id", "quantization": "method", "target": "instance_type"}
# Fields whose value may be the word null, which YAML reads as nothing unless it is quoted.
_NAMED_NULL = ("backend", "toolchain")


def _table() -> dict[Path, dict[str, Path]]:
    """Return section -> alias -> field, for every section around the field."""
    table: dict[Path, dict[str, Path]] = {}
    for canonical, words in _WORDS.items():
        field = tuple(canonical.split("."))
        for word in words.split():
            name = word.removeprefix("^")
            sections = len(field) - 1 if word != name else len(field)
            for depth in range(sections):
                table.setdefault(field[:depth], {}).setdefault(name, field)
    return table


_ALIASES = _table()


def normalise(root: Node) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Read a document's aliases as our words, in place.

    Args:
        root: The document, a mapping.

    Returns:
        A note for each alias that was read, once each, and the problems: an alias and the field
        it means, with different values.
    """
    notes: list[str] = []
    problems: list[Problem] = []
    _name_null(root)
    for section in sorted(_ALIASES, key=len):
        notes += _expand(root)
        for note, problem in _rename(root, section):
            notes += [note]
            problems += [problem] if problem is not None else []
    notes += _expand(root)
    for path, words in _VALUES.items():
        notes += _translate(root, path, words)
    return tuple(dict.fromkeys(notes)), tuple(problems)


def _section(root: Node, path: Path, *, made: bool = False) -> dict[str, Entry] | None:
    """Return the fields at a path, made where asked; None where something else stands there."""
    node = root
    for part in path:
        if not isinstance(node.value, dict):
            return None
        entry = node.value.get(str(part))
        if entry is None and not made:
            return None
        if entry is None or (made and entry.node.value is None):
            entry = Entry(node.mark, Node(node.mark, {}))
            node.value[str(part)] = entry
        node = entry.node
    return node.value if isinstance(node.value, dict) else None


def _rename(root: Node, section: Path) -> Iterator[tuple[str, Problem | None]]:
    """Move every alias of a section to the field it means."""
    fields = _section(root, section)
    if fields is None:
        return
    words = _ALIASES[section]
    # Whole sections first: what is set inside them joins them.
    for name in sorted((name for name in fields if name in words), key=lambda n: len(words[n])):
        entry = fields.pop(name)
        target = words[name]
        if isinstance(entry.node.value, str) and dotted(target) in _SHORT:
            target = (*target, _SHORT[dotted(target)])
        home = _section(root, target[:-1], made=True)
        note = f"{dotted((*section, name))} is read as {dotted(target)}"
        if home is None:
            fields[name] = entry
            continue
        there = home.setdefault(str(target[-1]), entry)
        yield note, None if there is entry else _conflict(there, entry, section, name, target)


def _conflict(there: Entry, entry: Entry, section: Path, name: str, target: Path) -> Problem | None:
    """Return the problem of an alias whose field has another value."""
    words = _VALUES.get(target, {})
    one, two = (_word(plain(side.node), words) for side in (there, entry))
    if one == two:
        return None
    line = f" on line {there.key.line}" if there.key.line else ""
    message = f"means {dotted(target)}, which is {shown(one)}{line}"
    return at(entry.key, message, field=dotted((*section, name)), value=shown(two))


def _expand(root: Node) -> Iterator[str]:
    """Turn a section that is one plain word into the section."""
    fields = _section(root, ()) or {}
    for name, inner in _SHORT.items():
        entry = fields.get(name)
        if entry is None or not isinstance(entry.node.value, str):
            continue
        node = entry.node
        field = inner
        if name == "target" and not str(node.value).startswith("ml."):
            field = "cpu"
        fields[name] = Entry(entry.key, Node(node.mark, {field: Entry(node.mark, node)}))
        yield f"{name}, given as text, is read as {name}.{field}"


def _word(value: object, words: dict[str, str]) -> object:
    """Return what a value's word means, or the value."""
    if not isinstance(value, str):
        return value
    return words.get(value) or words.get(value.lower().replace("-", "_"), value)


def _translate(root: Node, path: Path, words: dict[str, str]) -> Iterator[str]:
    """Read the aliases among a field's values as our words."""
    entry = (_section(root, path[:-1]) or {}).get(str(path[-1]))
    if entry is None:
        return
    nodes = entry.node.value if isinstance(entry.node.value, list) else [entry.node]
    for node in nodes:
        meant = _word(node.value, words)
        if isinstance(meant, str) and meant != node.value:
            yield f"{dotted(path)}: {node.value} is read as {meant}"
            node.value = meant


def _name_null(root: Node) -> None:
    """Read an unquoted null as the name it is, where names may be null."""
    fields = _section(root, ()) or {}
    for name in _NAMED_NULL:
        if name in fields and fields[name].node.raw == "null":
            fields[name].node.value = "null"
