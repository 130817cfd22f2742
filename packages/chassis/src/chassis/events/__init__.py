"""Events between services: their form, their streams, publishing and handling them."""
