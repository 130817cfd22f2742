"""Reading, watching and describing documents."""
