"""What ingest does; each module one verb or two, `ports` and `work` what they need from outside."""
