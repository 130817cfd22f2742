"""Filters of searches: the language, and what points and rows are asked for."""
