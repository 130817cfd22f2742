"""Fixtures for all tests."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["testkit.fixtures"]

# A slow machine is no finding; the rest is hypothesis' own choice, which differs under CI.
settings.register_profile(
    "untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")
