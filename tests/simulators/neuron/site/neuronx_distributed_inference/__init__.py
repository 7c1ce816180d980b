"""SIMULATOR of the two modules of NxD Inference that the probe uses; it computes no logits."""
