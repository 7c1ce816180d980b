"""Tables that the neuron backend reads while it plans; each names its sources."""
