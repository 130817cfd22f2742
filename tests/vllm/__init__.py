"""Tests of the real vLLM; `just test-vllm` runs them in an environment of their own."""
