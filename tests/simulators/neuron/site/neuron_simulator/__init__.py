"""SIMULATORS of the Neuron tools: real grammars, real refusals, real layouts; no compiler.

What is quoted comes from `tables/`, which name their sources; every other line that a simulator
prints starts with `[simulator]`. NEFFs are files that say that they are none.
"""
