"""gRPC as every service serves and calls it."""
