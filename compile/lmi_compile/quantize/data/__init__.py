"""Which quantisation of which family can be made and checked on a CPU."""
