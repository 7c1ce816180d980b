#!/bin/sh
# Starts vLLM Neuron on a writable copy of the compile cache; a cache miss is an error.
set -eu
tree=$(cd "$(dirname "$0")" && pwd)
root=${VLLM_CACHE_ROOT:-${TMPDIR:-/tmp}/vllm-cache}
if [ ! -d "$tree/neuron/compile_cache" ]; then
  echo "$tree has no neuron/compile_cache: vLLM would compile the model anew" >&2
  exit 78
fi
mkdir -p "$root/neuron"
cp -R "$tree/neuron/compile_cache" "$root/neuron/"
export VLLM_CACHE_ROOT="$root" VLLM_NEURON_DISABLE_WARMUP_COMPILE=1
export NEURON_LIBTORCH_DISABLE_GRAPH_CAPTURE_BACKEND=1
exec python -m vllm.entrypoints.openai.api_server --model "$tree" --port "${PORT:-8080}" \
  --tensor-parallel-size "@DEGREE@" --max-model-len "@LENGTH@" --max-num-seqs "@BATCH@" "$@"
