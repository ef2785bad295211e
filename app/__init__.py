"""The ticketing service: one FastAPI process over one MongoDB replica set."""
