"""Readers of messages: mail and MHTML."""
