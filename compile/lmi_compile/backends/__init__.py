"""One folder per backend; the folder is the registry."""
