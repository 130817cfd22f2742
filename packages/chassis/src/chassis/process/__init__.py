"""A process of a service from start to end, and what it tells operators."""
