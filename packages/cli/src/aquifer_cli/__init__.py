"""The `aquifer` command: everything through the public contract."""
