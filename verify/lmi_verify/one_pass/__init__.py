"""Verification of models that answer in one pass: encoders and image classifiers."""
