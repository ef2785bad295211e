"""Who may come in: users, roles, passwords, sessions and tokens."""
