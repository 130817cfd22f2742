"""What guardrails look for."""
