"""Where the engine's LLM class is from 1.0."""

from tensorrt_llm import LLM

__all__ = ["LLM"]
