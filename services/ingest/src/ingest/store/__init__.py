"""Postgres behind the ports of the use cases; SQL and nothing that decides."""
