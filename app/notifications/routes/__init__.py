"""The operations about mail."""
