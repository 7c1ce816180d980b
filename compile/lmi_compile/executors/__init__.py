"""Executors run steps and know nothing else."""
