"""Mail: what a mail is, the queue that it waits in until somebody has taken it, and who takes it."""
