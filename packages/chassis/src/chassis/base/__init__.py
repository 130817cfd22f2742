"""What every wing stands on: errors, settings, logs, metrics, spans, Postgres."""
