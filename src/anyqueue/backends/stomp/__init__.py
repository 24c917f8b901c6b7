"""stomp:// and stomps://: RabbitMQ and ActiveMQ Classic over STOMP 1.2, with the frames of stomp.py.

    options     the URL -> what it asks for                                         pure
    library     the one place that imports stomp.py
    frames      frames out, and bytes in to frames, however they were cut           pure
    headers     a header and its escapes; those that do not fit, in one bundle      pure
    names       queues, topics and groups -> destinations of a broker               pure
    dialect     what the driver asks of a broker's dialect
    rabbitmq, activemq, other   the dialects: features, frames, envelopes           pure
    refusals    ERROR frames -> our errors                                          pure
    connection  one connection: handshake, heartbeats, receipts
    declare     queues of RabbitMQ made to exist, over a connection of their own
    probe       does this ActiveMQ have its scheduler on?
    sending     a batch on its way, in a transaction where that is faster
    moves       a message of ActiveMQ moved in one transaction
    subscription, driver

docs/backends/stomp.md says what becomes of what on the wire, and docs/design.md why stomp.py's own transport is not
used.
"""
