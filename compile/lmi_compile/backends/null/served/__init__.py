"""Copied into the served tree as it is."""
