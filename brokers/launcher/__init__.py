"""The launcher's parts; `brokers/launch.py` is the way in. Standard library only: it runs before anything is installed.

`place` says where files and ports are, `broker` what a broker is, `catalogue` which there are. `control` carries the
verbs out, by way of `processes`, `packages`, `certificates` and `probes`. One module a kind of broker says the rest.
"""
