"""The queue as a state machine, in memory or in SQLite, for the backends that stand on it."""
