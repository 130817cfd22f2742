"""Kill everything under load; then read the stores and see that nothing was lost or doubled."""
