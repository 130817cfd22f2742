"""`just bench`: the platform's figures beside their floors, measured in one run."""
