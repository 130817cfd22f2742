"""What the service does: one callable for each verb, and the ports they need."""
