"""Fixtures for all tests."""

from importlib.util import find_spec

from hypothesis import HealthCheck, settings

pytest_plugins = ["testkit.fixtures"]

# `just test-vllm` runs these where vLLM is installed.
collect_ignore = [] if find_spec("vllm") else ["tests/vllm"]

# A slow machine is no finding; the rest is hypothesis' own choice, which differs under CI.
settings.register_profile(
    "untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")
