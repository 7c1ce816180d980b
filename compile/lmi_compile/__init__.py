"""The lmi-compile command: plans, compiles, checks, packages, publishes."""
