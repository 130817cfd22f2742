"""Reader of XML."""
