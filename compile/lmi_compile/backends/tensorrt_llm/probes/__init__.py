"""Scripts that run where TensorRT-LLM is installed; none of them imports this package."""
