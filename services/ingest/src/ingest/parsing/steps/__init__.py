"""The steps of a collection, over the cleaned pages of a document; they run in the child."""
