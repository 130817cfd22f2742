"""Used by every other package of the chassis: errors, settings, logs, metrics, traces, Postgres."""
