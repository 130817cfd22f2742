"""Accepting uploads: over gRPC, by event and by reference; each gets one answer."""
