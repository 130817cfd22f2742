"""Repair of lost events and unused objects, and comparisons for an operator."""
