"""SIMULATOR of the part of djl-serving 0.30 that loads a Neuron tree."""
