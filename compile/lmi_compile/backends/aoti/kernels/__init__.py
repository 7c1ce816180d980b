"""C++ that is linked into compiled graphs."""
