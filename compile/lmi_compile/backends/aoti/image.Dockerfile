# The image that compiles aoti packages for a published container's own torch, and may serve them.
# NOT BUILT YET: written from the published images' Dockerfiles; nobody has built or pushed it.
#
#   docker build -f image.Dockerfile --build-arg BASE=djl-inference:0.36.0-cpu-full \
#     --build-arg TORCH=2.7.1 -t lmi-compile/aoti-torch-2.7:0.36.0-cpu-full .
#   docker build -f image.Dockerfile --build-arg BASE=djl-inference:0.36.0-lmi27.0.0-cu130 \
#     --build-arg TORCH=2.11.0 -t lmi-compile/aoti-torch-2.11:0.36.0-lmi27.0.0-cu130 .
#
# Put the registry of your region's deep learning containers before BASE's name. The steps run with
# the image's python3, which must be 3.11 or later; our own sources are mounted.
ARG BASE
FROM ${BASE}
ARG TORCH
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ strace \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir "transformers==5.23.0" "tokenizers>=0.22,<1" \
      "safetensors>=0.6,<1" "pillow>=11,<14" \
 && python3 -c "import torch; assert torch.__version__.partition('+')[0] == '${TORCH}'"
