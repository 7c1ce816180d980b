"""What of a model enters a key: digests of its files and its architecture, never a path."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.models.files import model_files
from lmi_compile.models.strict_json import read_object

# transformers 5.23 takes these out of a config, or the graph of a model in eval mode does not
# hold them: PreTrainedConfig.__post_init__ (configuration_utils) pops what GenerationConfig
# declares, and no decoder's config declares one of those itself. Unknown fields stay.
_NOT_OF_THE_GRAPH_TEXT = """
    _name_or_path name_or_path _model_name_or_path _commit_hash transformers_version
    transformers.js_config torch_dtype dtype tokenizer_class tokenizer_file
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id
    id2label label2id num_labels problem_type finetuning_task task_specific_params
    initializer_range attention_dropout hidden_dropout embd_pdrop resid_pdrop attn_pdrop
    max_length max_new_tokens min_length min_new_tokens early_stopping max_time stop_strings
    do_sample num_beams use_mtp use_cache cache_implementation cache_config max_cache_len
    temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff repetition_penalty
    encoder_repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids
    renormalize_logits forced_bos_token_id forced_eos_token_id remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens sequence_bias
    token_healing guidance_scale watermarking_config num_return_sequences output_scores
    output_logits return_dict_in_generate encoder_no_repeat_ngram_size decoder_start_token_id
    is_assistant num_assistant_tokens num_assistant_tokens_schedule
    assistant_confidence_threshold prompt_lookup_num_tokens max_matching_ngram_size
    assistant_early_exit assistant_lookbehind target_lookbehind assistant_ensemble_weight
    speculation_type compile_config disable_compile continuous_batching_config low_memory
    penalty_alpha dola_layers diversity_penalty num_beam_groups constraints force_words_ids
    prefill_chunk_size
"""
_NOT_OF_THE_GRAPH = frozenset(_NOT_OF_THE_GRAPH_TEXT.split())
_ROPE = ("rope_parameters", "rope_scaling")


def directory_digests(directory: Path, hash_file: Callable[[Path], str]) -> dict[str, str]:
    """The digests of the files in a model directory that decide what the model is.

    Args:
        directory: the model directory.
        hash_file: gives a file's sha256 as hex, from a cache where that is safe.

    Returns:
        sha256 by file name, sorted.

    Raises:
        ModelFault: there is no model in the directory that can be used.
    """
    return {name: hash_file(directory / name) for name in model_files(directory).names}


def read_config(path: Path) -> dict[str, JSONValue]:
    """A model's config.json.

    Raises:
        ModelFault: it is not there or is malformed (with the line).
    """
    return read_object(path)


def architecture_of(config: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """The part of a config that decides the compiled graph, in one canonical spelling.

    Other weights, names, token ids, sampling defaults, dropout and library versions give the same
    value, so a fine-tune shares its base model's graphs. The dtype is not in it: the recipe says
    it. Fields that are not known to be without effect stay, which at worst compiles once more.

    Args:
        config: config.json as it was read, or a value this function returned.

    Returns:
        A new dict with sorted keys; RoPE is spelled as transformers 5 saves it.
    """
    kept = {name: value for name, value in config.items() if name not in _NOT_OF_THE_GRAPH}
    return dict(sorted(_with_rope_parameters(kept).items()))


def _with_rope_parameters(config: dict[str, JSONValue]) -> dict[str, JSONValue]:
    """Transformers 4 wrote plain RoPE as rope_theta; 5 writes rope_parameters."""
    nested = config.get("rope_parameters")
    if isinstance(nested, Mapping):
        theta = nested.get("rope_theta")
        if isinstance(theta, int | float):
            return {**config, "rope_parameters": {**nested, "rope_theta": float(theta)}}
    theta = config.get("rope_theta")
    if isinstance(theta, int | float) and _is_plain(config):
        plain = {name: config[name] for name in config if name not in {*_ROPE, "rope_theta"}}
        return {**plain, "rope_parameters": {"rope_theta": float(theta), "rope_type": "default"}}
    return config


def _is_plain(config: Mapping[str, JSONValue]) -> bool:
    return "partial_rotary_factor" not in config and all(config.get(name) is None for name in _ROPE)
