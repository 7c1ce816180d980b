"""Facts about GPUs, families and quantisations, with their sources."""
