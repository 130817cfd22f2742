"""Ranking of passages for a question, and the interface of the vector store."""
