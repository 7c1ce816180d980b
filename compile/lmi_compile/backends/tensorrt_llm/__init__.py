"""TensorRT-LLM engines: from a recipe to rank files and the tree that a container reads."""
