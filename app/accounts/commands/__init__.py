"""What changes an account or a session."""
