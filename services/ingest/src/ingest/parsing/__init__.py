"""Untrusted bytes to clean text; import `ingest.parsing.parser`. This file stays empty of imports.

The child process imports this package too, and pays for whatever stands here on every document.
"""
