"""The pipeline's test bench: small deterministic files through every step."""
