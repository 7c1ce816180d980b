"""Configs of every family, each with the class that the real model has in transformers."""

from typing import Any

# (name, model_type, auto class, overrides of the family's default config)
FAMILIES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("llama-2-7b", "llama", "causal", {}),
    ("llama-gqa-biases", "llama", "causal", {
        "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2,
        "num_hidden_layers": 3, "attention_bias": True, "mlp_bias": True,
        "tie_word_embeddings": True, "head_dim": 128}),
    ("mistral-7b", "mistral", "causal", {}),
    ("mixtral-8x7b", "mixtral", "causal", {}),
    ("falcon-7b", "falcon", "causal", {}),
    ("falcon-40b", "falcon", "causal", {
        "hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8,
        "num_hidden_layers": 60, "new_decoder_architecture": True}),
    ("falcon-11b-one-norm", "falcon", "causal", {
        "hidden_size": 512, "num_attention_heads": 8, "num_kv_heads": 2, "num_hidden_layers": 3,
        "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1}),
    ("falcon-rw-1b", "falcon", "causal", {
        "hidden_size": 2048, "num_attention_heads": 32, "num_hidden_layers": 24,
        "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    ("gpt2", "gpt2", "causal", {}),
    ("gptj-6b", "gptj", "causal", {}),
    ("gpt-neox-20b", "gpt_neox", "causal", {}),
    ("starcoder", "gpt_bigcode", "causal", {
        "n_embd": 6144, "n_head": 48, "n_layer": 40, "n_positions": 8192, "vocab_size": 49152}),
    ("gpt-bigcode-heads", "gpt_bigcode", "causal", {"multi_query": False}),
    ("starcoder2", "starcoder2", "causal", {}),
    ("qwen2", "qwen2", "causal", {}),
    ("qwen3", "qwen3", "causal", {}),
    ("qwen2-moe", "qwen2_moe", "causal", {}),
    ("qwen2-moe-steps", "qwen2_moe", "causal", {
        "num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [1]}),
    ("qwen3-moe", "qwen3_moe", "causal", {}),
    ("phi-1", "phi", "causal", {}),
    ("phi-qk-norm", "phi", "causal", {"qk_layernorm": True, "num_hidden_layers": 2}),
    ("phi3", "phi3", "causal", {}),
    ("gemma", "gemma", "causal", {}),
    ("gemma2", "gemma2", "causal", {}),
    ("gemma3", "gemma3_text", "causal", {}),
    ("opt-125m", "opt", "causal", {}),
    ("opt-350m", "opt", "causal", {
        "word_embed_proj_dim": 512, "hidden_size": 1024, "num_attention_heads": 16, "ffn_dim": 4096,
        "num_hidden_layers": 24, "do_layer_norm_before": False}),
    ("bloom", "bloom", "causal", {}),
    ("stablelm", "stablelm", "causal", {}),
    ("stablelm-2-12b-kind", "stablelm", "causal", {
        "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "use_parallel_residual": True, "qk_layernorm": True,
        "use_qkv_bias": True}),
    ("olmo2", "olmo2", "causal", {}),
    ("granite", "granite", "causal", {}),
    ("smollm3", "smollm3", "causal", {}),
    ("gpt-oss", "gpt_oss", "causal", {}),
    ("t5-small", "t5", "seq2seq", {}),
    ("t5-v1.1", "t5", "seq2seq", {
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_ff": 1024,
        "num_decoder_layers": 4}),
    ("bert", "bert", "BertModel", {}),
    ("bert-masked", "bert", "BertForMaskedLM", {}),
    ("bert-sequence", "bert", "BertForSequenceClassification", {}),
    ("bert-tokens", "bert", "BertForTokenClassification", {"num_labels": 9}),
    ("bert-answers", "bert", "BertForQuestionAnswering", {}),
    ("electra-discriminator", "electra", "ElectraForPreTraining", {
        "embedding_size": 1024, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096}),
    ("electra-small", "electra", "ElectraForPreTraining", {}),
    ("electra-masked", "electra", "ElectraForMaskedLM", {}),
    ("electra-sequence", "electra", "ElectraForSequenceClassification", {}),
    ("roberta", "roberta", "RobertaModel", {}),
    ("roberta-masked", "roberta", "RobertaForMaskedLM", {}),
    ("roberta-sequence", "roberta", "RobertaForSequenceClassification", {}),
    ("resnet-50", "resnet", "ResNetForImageClassification", {"num_labels": 1000}),
    ("resnet-18", "resnet", "ResNetForImageClassification", {
        "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}),
    ("vit", "vit", "ViTForImageClassification", {"num_labels": 1000}),
)  # fmt: skip
