"""Serves a packaged tree: standard library, torch, safetensors and tokenizers, nothing else."""
