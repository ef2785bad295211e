"""Tickets: what they are, who may see and change them, and how they move."""
