"""Many recipes as one piece of work: what to build, in which order, and what came of it."""
