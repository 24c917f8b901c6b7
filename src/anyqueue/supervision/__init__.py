"""Sections for service managers, made from a worker's own settings: supervisord's program, systemd's unit. Pure."""

from __future__ import annotations

from anyqueue.supervision.sections import MARGIN, Service, supervisord, systemd

__all__ = ["MARGIN", "Service", "supervisord", "systemd"]
