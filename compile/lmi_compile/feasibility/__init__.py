"""Feasibility: whether a recipe fits its target, and what to expect, by arithmetic alone."""
