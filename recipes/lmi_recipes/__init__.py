"""What to build: recipes, toolchains and targets, read and checked."""
