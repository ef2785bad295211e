"""Changes as they happen: the event log for clients that follow it."""
