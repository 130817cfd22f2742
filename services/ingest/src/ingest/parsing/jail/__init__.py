"""Child processes that read documents, confined: limits, queue of tasks, replies."""
