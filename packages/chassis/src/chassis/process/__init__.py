"""The process of a service from start to end, and what it reports to operators."""
