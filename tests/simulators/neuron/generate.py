"""Writes `tables/`: argument grammars, property classes and refusals of the real Neuron tools.

    python generate.py FACTS_JSON SDK_GIT NXDI_GIT OPTIMUM_GIT DJL_GIT

FACTS_JSON holds the argparse parsers of the real sources, walked against stub modules, and the
documents' tables; the four git directories are the real sources, whose files are named in each
table with commit and sha256. Texts of refusals are cut out of those sources, or are quotes of the
public issue that is named beside them.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

TABLES = Path(__file__).parent / "tables"
NXDI = "src/neuronx_distributed_inference"
SOURCES = {
    "sdk": (
        "aws-neuron/aws-neuron-sdk",
        "81ce03ae",
        {
            "neuronx-cc": "compiler/neuronx-cc/api-reference-guide/index.rst",
            "trace": "frameworks/torch/torch-neuronx/api-reference-guide/inference/"
            "api-torch-neuronx-trace.rst",
            "vllm_configuration": "vllm-neuron/docs/guides/reference-configuration.md",
            "vllm_offline": "vllm-neuron/docs/getting-started/quickstart-offline-serving.md",
            "vllm_cache": "vllm-neuron/docs/design/compilation/compilation_cache.md",
            "vllm_cpu": "vllm-neuron/docs/design/compilation/cpu_compilation.md",
            "vllm_development": "vllm-neuron/docs/model-dev/cpu-development.md",
            "NCC_EARG001": "compiler/error-codes/EARG001.rst",
            "NCC_EBVF030": "compiler/error-codes/EBVF030.rst",
            "NCC_EOOM001": "compiler/error-codes/EOOM001.rst",
            "NCC_EVRF007": "compiler/error-codes/EVRF007.rst",
        },
    ),
    "nxdi": (
        "aws-neuron/neuronx-distributed-inference",
        "cd3abf3",
        {
            "inference_demo": f"{NXDI}/inference_demo.py",
            "config": f"{NXDI}/models/config.py",
            "accuracy": f"{NXDI}/utils/accuracy.py",
        },
    ),
    "optimum": (
        "huggingface/optimum-neuron",
        "v0.4.5",
        {
            "exporter": "optimum/exporters/neuron/__main__.py",
            "cli": "optimum/commands/export/neuronx.py",
            "instance": "optimum/neuron/utils/instance.py",
        },
    ),
    "djl": (
        "deepjavalibrary/djl-serving",
        "0.30.0-dlc",
        {
            "partition": "serving/docker/partition/partition.py",
            "properties": "engines/python/setup/djl_python/properties_manager/tnx_properties.py",
        },
    ),
}
# Runtime and compiler messages that stand in no source that can be read: quotes, with their issue.
QUOTED = {
    "topology": {
        "text": "Unsupported topology. Supported number of Neuron Cores is 1, 2, 8, 16 or a "
        "multiple of 32.  For other configurations, such as multiples of 2, consider using inf2 "
        "instances",
        "source": "huggingface/optimum-neuron issue 619",
    },
    "no-device": {
        "text": "Bad StatusOr access: INVALID_ARGUMENT: PJRT_Client_Create: "
        "error condition !(num_devices > 0)",
        "source": "aws-neuron/aws-neuron-sdk issue 910",
    },
    "hbm": {
        "text": "[XCG815]  Estimated peak HBM usage ({used}) exceeds 16GB. Neff won't be able to "
        "load on chip",
        "source": "aws-neuron/aws-neuron-sdk issue 884",
    },
    "instructions": {
        "text": "Too many instructions after unroll for function sg0000 !",
        "source": "aws-neuron/aws-neuron-samples issue 40",
    },
    "killed": {
        "text": "neuronx-cc failed with -9",
        "source": "aws-neuron/aws-neuron-sdk issue 1222",
    },
    "target-missing": {
        "text": "If you want to compile on CPU, please supply compiler argument target",
        "source": "huggingface/optimum-neuron pull request 961",
    },
}


# Keywords of vLLM itself that no page of the plugin shows, with their source.
VLLM_OWN = {
    "LLM": {},
    "SamplingParams": {"logprobs": "vllm-project/vllm, vllm/sampling_params.py"},
}


def main(arguments: list[str]) -> int:
    facts_path, *repositories = map(Path, arguments)
    facts = json.loads(facts_path.read_bytes())
    named, texts = {}, {}
    for (key, (repository, commit, files)), git in zip(SOURCES.items(), repositories, strict=True):
        contents = {name: _show(git, commit, path) for name, path in files.items()}
        texts[key] = {name: content.decode() for name, content in contents.items()}
        named[key] = [
            {
                "repository": repository,
                "commit": commit,
                "path": files[name],
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in contents.items()
        ]
    facts_digest = hashlib.sha256(facts_path.read_bytes()).hexdigest()
    header = {"generator": "generate.py", "facts_sha256": facts_digest}
    for name, (keys, content) in _tables(facts, texts).items():
        sources = [each for key in keys for each in named[key]]
        table = {"_source": {**header, "files": sources}, **content}
        text = json.dumps(table, indent=1, ensure_ascii=False)
        (TABLES / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return 0


def _tables(facts: dict, texts: dict) -> dict:
    demo = facts["inference_demo"]["0.8"]
    _hold_flags(demo["run"]["flags"] | demo["global_flags"], texts["nxdi"]["inference_demo"])
    _hold_flags(facts["optimum-cli export neuron"]["flags"], texts["optimum"]["cli"])
    lmi = facts["lmi tnx properties"]
    return {
        "neuronx-cc": (("sdk",), facts["neuronx-cc compile"]),
        "neuron-cc": (("sdk",), facts["neuron-cc compile"]),
        "inference_demo": (("nxdi",), {**demo, "refusals": _nxdi_refusals(texts["nxdi"])}),
        "neuron_config": (("nxdi",), {"fields": facts["NxDI NeuronConfig"]["NeuronConfig"]}),
        "accuracy": (
            ("nxdi",),
            {
                "check_accuracy_logits_v2": _parameters(
                    texts["nxdi"]["accuracy"], "check_accuracy_logits_v2"
                )
            },
        ),
        "quantization": (("nxdi",), facts["NxDI quantization"]),
        "optimum": (
            ("optimum",),
            {
                **facts["optimum-cli export neuron"],
                "models": facts["optimum supported models"],
                "config": facts["optimum NxDNeuronConfig"]["fields"],
                "refusals": {
                    "instance": _cut(
                        texts["optimum"]["instance"], r'f"(\{instance_type\} is not a valid[^"]*)"'
                    )
                },
            },
        ),
        "trace": (
            ("sdk",),
            {
                "torch_neuronx": facts["torch_neuronx.trace"],
                "torch_neuron": facts["torch_neuron.trace"],
            },
        ),
        "partition": (
            ("djl",),
            {
                **facts["lmi partition"],
                "properties": lmi["full"]["0.30.0"],
                "refusals": _djl_refusals(texts["djl"]["properties"]),
            },
        ),
        "refusals": (
            ("sdk",),
            {
                "quoted": QUOTED,
                "codes": {
                    name: _cut(text, r"\*\*Error message\*\*: (.+)")
                    for name, text in texts["sdk"].items()
                    if name.startswith("NCC_")
                },
            },
        ),
        "vllm": (("sdk",), _vllm(texts["sdk"])),
        "hardware": (
            ("sdk",),
            {
                "instances": facts["hardware"]["instances"],
                "chips": facts["hardware"]["chips"],
                "degrees": facts["tp_degrees"],
                "releases": facts["sdk releases"],
                "environment": facts["environment"],
            },
        ),
    }


def _parameters(source: str, function: str) -> dict:
    """A function's parameters in order: `required`, or the default as its source has it."""
    found = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    names = [each.arg for each in found.args.args]
    defaults = [ast.unparse(each) for each in found.args.defaults]
    return dict(zip(names, ["required"] * (len(names) - len(defaults)) + defaults, strict=True))


def _hold_flags(flags: dict, source: str) -> None:
    """Every flag of a table must stand in the real source; what does not ends the generator."""
    missing = [flag for flag in flags if f'"{flag}"' not in source]
    if missing:
        sys.exit(f"the source has no {', '.join(missing)}")


def _vllm(texts: dict) -> dict:
    """What vLLM Neuron's documents name: keywords, options and environment, each with its type.

    Its source of SDK 2.33 is not public: a keyword that no document shows is refused, which is
    stricter than the real tool.
    """
    pages = [text for name, text in texts.items() if name.startswith("vllm_")]
    whole = "\n".join(pages)
    calls = [
        node
        for block in re.findall(r"``` ?python\n(.*?)```", whole, re.DOTALL)
        for node in _calls(block)
    ]
    row = r"^\| `(\w+)` \| ((?:list|int|float|str|dict|bool)[^|]*?) \|"
    rows = [found for page in pages for found in re.findall(row, page, re.MULTILINE)]
    shell = "\n".join(re.findall(r"``` ?bash\n(.*?)```", whole, re.DOTALL))
    return {
        "keywords": {
            name: sorted(
                {word.arg for call in calls if call.func.id == name for word in call.keywords}
                | own.keys()
            )
            for name, own in VLLM_OWN.items()
        },
        "neuron_config": {name: kind for name, kind in rows if name.islower()},
        "environment": {name: kind for name, kind in rows if name.isupper()},
        "cache_key": re.findall(
            r"^\| ([^|]+?) \| [^|]+ \|$", texts["vllm_cache"].split("## Cache Key")[1], re.MULTILINE
        )[2:10],
        "command_line": sorted(set(re.findall(r"(--[a-z][a-z-]+)", shell))),
        "rules": {
            "override": _cut(texts["vllm_cpu"], r"(`NEURON_PLATFORM_TARGET_OVERRIDE` is required)"),
            "modes": _cut(
                texts["vllm_cpu"],
                r"(`VLLM_\w+_COMPILE` and `VLLM_\w+_MODE` cannot be enabled\s+together)",
            ),
            "warmup": _cut(
                texts["vllm_cache"], r"(Incompatible with `NEURON_LIBTORCH_DISABLE_\w+`)"
            ),
            "miss": _cut(texts["vllm_cache"], r"(treat a local cache miss as a fatal error)"),
            "num_seqs": _cut(texts["vllm_configuration"], r"(Largest must equal `max_num_seqs`)"),
        },
    }


def _calls(block: str) -> list:
    try:
        tree = ast.parse(block)
    except SyntaxError:  # a block that shows output
        return []
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def _nxdi_refusals(texts: dict) -> dict:
    config = texts["config"]
    return {
        "task": _cut(texts["inference_demo"], r'f"(Unsupported task: [^"]+)"'),
        "context": _cut(config, r'"(max_context_length cannot be more than max_length)"'),
        "context_bucket": _cut(config, r'f"(Context bucket [^"]+)"'),
        "token_bucket": _cut(config, r'f"(Token generation bucket [^"]+)"'),
        "quantized_path": _cut(config, r'"(quantized_checkpoints_path is required)"'),
    }


def _djl_refusals(text: str) -> dict:
    return {
        "batch": "".join(
            re.findall(
                r'"(Dynamic batching and rolling batch[^"]+|set either batch size[^"]+)"', text
            )
        ),
        "gqa": _cut(text, r'f"(\{gqa\} is not a valid value for group_query_attention\. )"'),
        "tnx_optimum": _cut(text, r'f"(Transformers NeuronX model loader does not[^"]+)"'),
        "optimum_schema": _cut(text, r'f"(Optimum model loader does not support[^"]+)"'),
        "vllm": _cut(text, r'f"(vLLM model loader does not support[^"]+)"'),
        "graph": _cut(text, r'f"(\{path\} is not a valid value for compiled_graph_path\. )"'),
    }


def _cut(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        sys.exit(f"no {pattern} in the source")
    return found.group(1)


def _show(git: Path, commit: str, path: str) -> bytes:
    argv = ["git", f"--git-dir={git}", "show", f"{commit}:{path}"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
