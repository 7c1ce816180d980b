"""Ask an engine of TensorRT-LLM 0.20 to 1.2 our prompts; runs where TensorRT-LLM is installed.

The packaged engine continues each prompt greedily. The verification engine, built of the same
weights with context logits, scores prompt and forced continuation in one go. The LLM class starts
its own ranks. Files: see the prompt and output files of verify/README.md.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import torch  # noqa: TID253 - this script runs where TensorRT-LLM is installed
from safetensors.torch import load_file, save_file  # noqa: TID253 - as above


def main() -> None:
    """Write outputs.json and outputs.safetensors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--logits-engine", type=Path)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    # from 1.0 `tensorrt_llm.LLM` is the PyTorch backend, which takes an engine for an HF model
    parser.add_argument("--llm-class", default="tensorrt_llm")
    args = parser.parse_args()
    asked = json.loads((args.prompts / "prompts.json").read_bytes())
    tokens = load_file(args.prompts / "prompts.safetensors")
    made, answered = _generate(args, asked, tokens)
    if args.logits_engine is not None:
        made |= _score(args, asked, tokens)
    save_file(made, args.out / "outputs.safetensors")
    content = {
        "format": 1,
        "prompts_digest": asked["digest"],
        "vocab_size": asked["vocab_size"],
        "prompts": answered,
    }
    (args.out / "outputs.json").write_text(json.dumps(content, indent=2) + "\n")


def _generate(args, asked, tokens):
    """Greedy ids of the packaged engine, stopped at an end token, with its generation logits."""
    classes = importlib.import_module(args.llm_class)
    sampling = importlib.import_module("tensorrt_llm").SamplingParams
    eos = list(asked["eos_token_ids"])
    made, answered = {}, []
    # gather_generation_logits at run time: the build flag is deprecated in these versions
    llm = classes.LLM(str(args.engine), skip_tokenizer_init=True, gather_generation_logits=True)
    try:
        for index, prompt in enumerate(asked["prompts"]):
            name = f"{index:03d}"
            limit = len(tokens[f"{name}.forced_ids"])
            started = time.perf_counter()
            answer = llm.generate(
                {"prompt_token_ids": tokens[f"{name}.input_ids"].tolist()},
                sampling(
                    max_tokens=limit,  # its default is 32
                    temperature=0,
                    end_id=eos[0] if eos else -1,
                    stop_token_ids=eos[1:] or None,
                    add_special_tokens=False,
                    return_generation_logits=True,
                ),
            )
            (output,) = answer.outputs
            ids, reason = list(output.token_ids), "length"
            if output.finish_reason == "stop":
                reason = "eos_token"
                if not ids or ids[-1] not in eos:  # it may leave the end token out
                    ids.append(output.stop_reason if output.stop_reason is not None else eos[0])
            made[f"{name}.generated_ids"] = torch.tensor(ids)
            if output.generation_logits is not None:
                logits = output.generation_logits.float().cpu().contiguous()
                made[f"{name}.generation_logits"] = logits
            seconds = {"generate": round(time.perf_counter() - started, 4)}
            answered.append({"id": prompt["id"], "finish_reason": reason, "seconds": seconds})
    finally:
        llm.shutdown()
    return made, answered


def _score(args, asked, tokens):
    """Logits at every position of prompt and forced continuation."""
    classes = importlib.import_module(args.llm_class)
    sampling = importlib.import_module("tensorrt_llm").SamplingParams
    made = {}
    llm = classes.LLM(str(args.logits_engine), skip_tokenizer_init=True)
    try:
        for index in range(len(asked["prompts"])):
            name = f"{index:03d}"
            given, forced = tokens[f"{name}.input_ids"], tokens[f"{name}.forced_ids"]
            whole = torch.cat((given, forced[:-1])).tolist()
            answer = llm.generate(
                {"prompt_token_ids": whole},
                sampling(
                    max_tokens=1,
                    temperature=0,
                    end_id=-1,
                    add_special_tokens=False,
                    return_context_logits=True,
                ),
            )
            logits = answer.context_logits.float().cpu()[:, : asked["vocab_size"]]
            made[f"{name}.prompt_logits"] = logits[tokens[f"{name}.rows"]].clone()
            made[f"{name}.token_log_probs"] = _likelihoods(logits, given)
            made[f"{name}.forced_logits"] = logits[len(given) - 1 :].clone()
    finally:
        llm.shutdown()
    return made


def _likelihoods(logits, ids):
    """Log-probability of each token of the prompt after the first."""
    before = logits[: len(ids) - 1]
    chosen = before.gather(1, ids[1:, None].long())[:, 0]
    return chosen - before.logsumexp(1)


if __name__ == "__main__":
    main()
