"""Readers of tables and data: CSV, JSON, JSON lines, notebooks."""
