"""Stands in for TensorRT-LLM's tools on a machine without a GPU."""
