"""Is it right: reference outputs, measurements, gates, and the verdict on a build."""
