"""How passages are ranked for a question, and what that needs of a vector store."""
