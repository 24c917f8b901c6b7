"""zmq://: a hub with guarantees over ZeroMQ, its driver, and the bare patterns that have none."""
