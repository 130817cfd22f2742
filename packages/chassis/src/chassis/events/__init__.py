"""Events between services: their format, their streams, how they are published and handled."""
