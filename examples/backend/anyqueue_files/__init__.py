"""A backend for anyqueue: a directory of files as queues."""
