"""Deleting documents and collections from every store, with receipts."""
