"""REST operations on accounts and sessions."""
