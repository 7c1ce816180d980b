"""The one version of nvidia-modelopt whose TensorRT-LLM export is used; 0.49 removes it. Light."""

VERSION = "0.47.0"
