"""amqp:// and amqps://: RabbitMQ 3.10 or newer, through pika.

    options   the URL -> what it asks for                            pure
    names     queues, exchanges, arguments, the steps of delays      pure
    table     header tables: text out, anything in, never an error   pure
    properties   a content header, taken apart                    pure
    codec     an envelope <-> a content header                       pure
    frames    messages in batches -> bytes; bytes -> what came       pure
    wire      pika's connection, its bulk of frames read by `frames`
    connection   one of the hosts of the URL
    channel   a channel whose calls are awaited
    declare   queues and exchanges, made to exist or refused
    lane      a channel that publishes, and its confirms
    subscription, driver

pika does the handshake, heartbeats and everything rare. What comes in bulk (publish, confirm, deliver, acknowledge) is
written and read here, a batch at a time: pika is slow over a frame, and raises on headers that a stranger may send.
"""
