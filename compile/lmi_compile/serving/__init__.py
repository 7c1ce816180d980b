"""A packaged model behind HTTP: the wire formats, the queue in front, the process behind."""
