"""Takes texts of any language apart into the terms by which words are found."""
