"""The vector store's two adapters, and the vector process."""
