-- Prosody for anyqueue; docs/backends/xmpp.md says why each of this is needed. Filled in by the launcher.
run_as_root = true
data_path = "$data"
pidfile = "$folder/prosody.pid"
log = { { levels = { min = "warn" }, to = "console" } }
interfaces = { "$host" }
c2s_ports = { $xmpp }
c2s_direct_tls_ports = { $xmpps }
c2s_direct_tls_interfaces = { "$host" }
s2s_ports = {}
s2s_direct_tls_ports = {}
http_ports = {}
https_ports = {}

modules_enabled = { "saslauth", "tls", "disco", "ping", "time", "version", "limits" }
modules_disabled = { "s2s", "offline" }

-- Clients on this machine may speak in clear; others may not be reached.
c2s_require_encryption = false
allow_unencrypted_plain_auth = false
certificates = "$tls"
ssl = { certificate = "$tls/server.pem"; key = "$tls/server.key" }

-- Without this an answer waits up to 40 ms for the client's acknowledgement of the one before.
network_settings = { nagle = false; read_size = 65536 }

-- Without this a client gets 10 kB/s (Debian's configuration), and requests time out.
limits = { c2s = { rate = "100mb/s"; burst = "10s" } }
c2s_stanza_size_limit = 262144

-- Kept as keys, a password need not be derived anew at each login.
authentication = "internal_hashed"
default_storage = "sql"
storage = { accounts = "internal" }
sql = { driver = "SQLite3"; database = "prosody.sqlite" }

VirtualHost "localhost"

Component "pubsub.localhost" "pubsub"
	admins = { "anyqueue@localhost" }
	-- Without this a node has at most 256 items, and the oldest go.
	pubsub_max_items = 100000
