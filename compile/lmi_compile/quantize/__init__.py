"""Quantised TensorRT-LLM checkpoints on a CPU: made by nvidia-modelopt, read back, simulated."""
