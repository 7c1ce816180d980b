"""Models that answer in one pass, as one graph: encoders and image classifiers."""
