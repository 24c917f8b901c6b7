"""xmpp:// and xmpps://: publish-subscribe (XEP-0060) with the semantics of queues, through slixmpp.

    options   the URL -> what it asks for                                    pure
    names     queues, topics, groups -> nodes; ids of items and back         pure
    codec     a message <-> the XML of an item                               pure
    stanzas   requests as text; what an answer or a notification says        pure
    plan      what is ready, who holds what, what to claim                   pure
    reading   what comes in: XML, with limits
    stream    slixmpp's stream: login, requests and answers, notifications
    session   a stream to one of the hosts of the URL
    proof     does this server let exactly one of two retract an item?
    nodes     nodes made to exist or refused; how full they are
    topics    who listens to a topic
    replies   how long reply queues last, and their end
    claims    the steps of a claim, of a settlement, of a sweep
    queue     a subscription to a queue or to a named group
    passing   a subscription to a topic without a group
    driver

docs/backends/xmpp.md says how it looks on the server, and plan.py why it is right.
"""
