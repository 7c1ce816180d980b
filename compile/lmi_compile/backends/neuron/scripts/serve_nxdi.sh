#!/bin/sh
# Starts vLLM on this tree. The plugin compiles anew, without a word, where the artifacts it is
# pointed at are not whole: so they are looked for here first.
set -eu
tree=$(cd "$(dirname "$0")" && pwd)
artifacts=${NEURON_COMPILED_ARTIFACTS:-$tree}
for file in model.pt neuron_config.json @WEIGHTS@; do
  if [ ! -s "$artifacts/$file" ]; then
    echo "NEURON_COMPILED_ARTIFACTS=$artifacts has no $file: vLLM would compile the model anew" >&2
    exit 78
  fi
done
export NEURON_COMPILED_ARTIFACTS="$artifacts" NEURON_RT_NUM_CORES="@DEGREE@"
exec python -m vllm.entrypoints.openai.api_server --model "$tree" --port "${PORT:-8080}" \
  --tensor-parallel-size "@DEGREE@" --max-model-len "@LENGTH@" --max-num-seqs "@BATCH@" \
  --no-enable-prefix-caching "$@"
