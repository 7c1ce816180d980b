"""One module for each way from a model to NEFFs."""
