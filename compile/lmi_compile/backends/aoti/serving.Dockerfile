# The image that serves aoti packages on CPU. NOT BUILT YET: written from the published image's
# Dockerfile and the loader's imports; nobody has built or pushed it, so no digest is given.
#
# No published LMI container carries torch 2.13.0, and a compiled library loads only under the
# torch it was compiled for: the handler compares the version, the commit and the processor's
# flags first and refuses the model with a sentence when they differ.
#
# Base: djl-serving 0.36.0, python 3.11, torch 2.7.1 (replaced below), no transformers. Account
# 763104351884 is that of most regions; some have their own.
ARG REGION=us-east-1
FROM 763104351884.dkr.ecr.${REGION}.amazonaws.com/djl-inference:0.36.0-cpu-full

# The CPU build: the commit it is made from is what packages record, whatever the wheel's suffix.
RUN pip uninstall -y torchvision torchaudio \
 && pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch==2.13.0" \
 && pip install --no-cache-dir "tokenizers>=0.22,<1" "safetensors>=0.6,<1" \
 && python -c "import torch; assert torch.__version__.partition('+')[0] == '2.13.0'"
