"""Scripts that run in a toolchain's own Python or in a served tree; they import nothing of ours."""
