"""The life of a version: prepared, indexed or failed, kept, rolled back to, described."""
