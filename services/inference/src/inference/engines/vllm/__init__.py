"""Models that vLLM runs in this process; only this package imports it, when it is chosen."""
