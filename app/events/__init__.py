"""The event log: every change to a ticket, once, with the change that caused it."""
