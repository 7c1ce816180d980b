# The image that serves aoti packages on CPU. NOT BUILT YET: written from the published image's
# Dockerfile and the loader's imports; nobody has built or pushed it, so no digest is given.
#
# No published LMI container carries torch 2.13.0, and a compiled library loads only under the
# torch it was compiled for: the handler compares the version, the commit and the processor's
# flags first and refuses the model with a sentence when they differ.
#
# BASE: djl-serving 0.36.0, python 3.11, torch 2.7.1 (replaced below), no transformers. Put the
# registry of your region's deep learning containers before the name.
ARG BASE=djl-inference:0.36.0-cpu-full
FROM ${BASE}

# TORCH_INDEX: where pip finds the CPU build of torch 2.13.0; a closed network names its mirror. The
# handler compares the commit that torch was built from, whatever suffix the wheel's version has.
ARG TORCH_INDEX
RUN test -n "${TORCH_INDEX}" \
 && pip uninstall -y torchvision torchaudio \
 && pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch==2.13.0" \
 && pip install --no-cache-dir "tokenizers>=0.22,<1" "safetensors>=0.6,<1" "pillow>=11,<14" \
 && python -c "import torch; assert torch.__version__.partition('+')[0] == '2.13.0'"
