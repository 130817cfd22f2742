"""What every test of the house may use."""

pytest_plugins = ["testkit.fixtures"]
