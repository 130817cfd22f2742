"""Models behind an OpenAI-compatible server; only this package speaks that protocol."""
