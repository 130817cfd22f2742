"""What ingest does; each file one verb or two, `ports` what they need done by others."""
