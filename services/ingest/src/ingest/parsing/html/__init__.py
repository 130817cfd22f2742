"""Reader of HTML by the WHATWG algorithm."""
