"""The embedded backend: PyTorch AOTInductor packages that load on any machine."""
