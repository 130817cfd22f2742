"""The use cases of auth; `ports` are the interfaces that they need."""
