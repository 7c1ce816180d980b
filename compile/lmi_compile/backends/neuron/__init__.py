"""The neuron backend: NEFFs for Inf1, Inf2, Trn1 and Trn2."""
