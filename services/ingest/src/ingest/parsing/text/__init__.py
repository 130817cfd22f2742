"""Bytes to clean text: encodings, and the signs that are taken out."""
