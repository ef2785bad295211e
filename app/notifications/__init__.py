"""Notifications: who hears by mail of what happens to a ticket, and what that mail says."""
