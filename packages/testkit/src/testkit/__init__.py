"""Real servers for tests; nothing in production imports this."""
