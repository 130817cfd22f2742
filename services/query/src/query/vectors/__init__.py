"""Vectors of passages: the port, its two adapters, and the process behind one of them."""
