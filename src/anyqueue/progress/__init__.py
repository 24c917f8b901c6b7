"""Where progress reports are kept, for brokers that have none: a SQLite file, or any database of SQLAlchemy."""
