"""The backends, one module or folder each. Only the registry imports them, by name, when a URL asks for one."""
