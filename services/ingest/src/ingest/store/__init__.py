"""The ports of the use cases on Postgres; SQL without business rules."""
