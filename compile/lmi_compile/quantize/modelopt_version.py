"""The one version of nvidia-modelopt whose TensorRT-LLM export works here; removed in 0.49. Light."""

VERSION = "0.47.0"
