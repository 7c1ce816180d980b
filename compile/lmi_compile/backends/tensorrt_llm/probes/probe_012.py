"""Ask an engine of TensorRT-LLM 0.12 our prompts; runs under mpirun, one process for each rank.

The packaged engine continues each prompt greedily. The verification engine, built of the same
weights with context logits, scores prompt and forced continuation in one go. 0.12 gives no finish
reason: it is taken from the length and the end ids. Files: see verify/README.md.
"""

import argparse
import json
import time
from pathlib import Path

import tensorrt_llm  # noqa: TID253 - this script runs where it is installed
import torch  # noqa: TID253 - as above
from safetensors.torch import load_file, save_file  # noqa: TID253 - as above
from tensorrt_llm.runtime import ModelRunnerCpp  # noqa: TID253 - as above


def main() -> None:
    """Write outputs.json and outputs.safetensors, by rank 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--logits-engine", type=Path)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    asked = json.loads((args.prompts / "prompts.json").read_bytes())
    tokens = load_file(args.prompts / "prompts.safetensors")
    rank = tensorrt_llm.mpi_rank()
    made, answered = _generate(_engine_of(args.engine), asked, tokens, rank)
    if args.logits_engine is not None:
        made |= _score(args.logits_engine, asked, tokens, rank)
    if rank != 0:
        return
    save_file(made, args.out / "outputs.safetensors")
    content = {
        "format": 1,
        "prompts_digest": asked["digest"],
        "vocab_size": asked["vocab_size"],
        "prompts": answered,
    }
    (args.out / "outputs.json").write_text(json.dumps(content, indent=2) + "\n")


def _engine_of(tree):
    """The engine directory of a packaged tree: itself, or `<name>/1` of a Triton repository."""
    inside = sorted(tree.glob("*/1/config.json"))
    return inside[0].parent if inside else tree


def _generate(engine, asked, tokens, rank):
    """Greedy ids of the packaged engine, cut behind the first end token."""
    eos = list(asked["eos_token_ids"])
    end = eos[0] if eos else -1
    runner = ModelRunnerCpp.from_dir(engine_dir=str(engine), rank=rank)
    made, answered = {}, []
    for index, prompt in enumerate(asked["prompts"]):
        name = f"{index:03d}"
        given, limit = tokens[f"{name}.input_ids"], len(tokens[f"{name}.forced_ids"])
        started = time.perf_counter()
        answer = runner.generate(
            batch_input_ids=[given.int()],
            max_new_tokens=limit,
            end_id=end,
            pad_id=end,
            temperature=1.0,
            top_k=1,
            return_dict=True,
            output_sequence_lengths=True,
        )
        length = int(answer["sequence_lengths"][0, 0])
        ids = answer["output_ids"][0, 0, len(given) : max(length, len(given))].tolist()[:limit]
        ended = next((number for number, each in enumerate(ids) if each in eos), None)
        if ended is not None:
            ids = ids[: ended + 1]
        elif eos and len(ids) < limit:
            ids, ended = [*ids, end], len(ids)  # it leaves the end token out
        made[f"{name}.generated_ids"] = torch.tensor(ids)
        reason = "length" if ended is None else "eos_token"
        seconds = {"generate": round(time.perf_counter() - started, 4)}
        answered.append({"id": prompt["id"], "finish_reason": reason, "seconds": seconds})
    return made, answered


def _score(engine, asked, tokens, rank):
    """Logits at every position of prompt and forced continuation."""
    runner = ModelRunnerCpp.from_dir(engine_dir=str(engine), rank=rank)
    made = {}
    for index in range(len(asked["prompts"])):
        name = f"{index:03d}"
        given, forced = tokens[f"{name}.input_ids"], tokens[f"{name}.forced_ids"]
        whole = torch.cat((given, forced[:-1]))
        answer = runner.generate(
            batch_input_ids=[whole.int()],
            max_new_tokens=1,
            end_id=-1,
            pad_id=0,
            temperature=1.0,
            top_k=1,
            return_dict=True,
            output_sequence_lengths=True,
        )
        logits = answer["context_logits"][0].float().cpu()[: len(whole), : asked["vocab_size"]]
        made[f"{name}.prompt_logits"] = logits[tokens[f"{name}.rows"]].clone()
        made[f"{name}.token_log_probs"] = _likelihoods(logits, given)
        made[f"{name}.forced_logits"] = logits[len(given) - 1 :].clone()
    return made


def _likelihoods(logits, ids):
    """Log-probability of each token of the prompt after the first."""
    before = logits[: len(ids) - 1]
    chosen = before.gather(1, ids[1:, None].long())[:, 0]
    return chosen - before.logsumexp(1)


if __name__ == "__main__":
    main()
