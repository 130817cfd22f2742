"""What auth does; each file one noun's verbs, and `ports` what they need done by others."""
