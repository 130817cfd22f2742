"""Untrusted bytes to clean text; import `ingest.parsing.parser`. This file has no imports.

The child process imports this package too, so every import here would cost time on every document.
"""
