"""Real servers for tests; production code must not import this."""
