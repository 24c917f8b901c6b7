"""gearman://: background jobs as messages, foreground jobs as requests (docs/backends/gearman.md)."""
