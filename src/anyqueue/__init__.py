"""anyqueue: one Producer/Consumer API with delivery semantics over swappable message brokers.

Begin with `connect()`; `anyqueue.sync` is the same API, blocking.
"""

from anyqueue._arguments import DEFAULT, Default
from anyqueue._batches import Batch, Batches
from anyqueue._client import Client, connect
from anyqueue._consumer import Consumer, Messages
from anyqueue._death import Death
from anyqueue._message import Message
from anyqueue._producer import Producer
from anyqueue.capability import Support
from anyqueue.driver import Depth, Feature, Limits, Progress, Queue, Topic
from anyqueue.errors import (
    AuthFailed,
    BatchFailed,
    Closed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Error,
    MissingBackend,
    NoReply,
    ProtocolError,
    QueueError,
    QueueFull,
    QueueMismatch,
    QueueNotFound,
    Rejected,
    RemoteError,
    RequestError,
    RetryLater,
    SendError,
    SettleError,
    TooLarge,
    TransportError,
    Undecodable,
    Unroutable,
    Unsupported,
)
from anyqueue.policy import Retry
from anyqueue.url import URL

__version__ = "0.1.0"

__all__ = [
    "DEFAULT",
    "URL",
    "AuthFailed",
    "Batch",
    "BatchFailed",
    "Batches",
    "Client",
    "Closed",
    "ConfigError",
    "ConnectFailed",
    "ConnectionLost",
    "Consumer",
    "Death",
    "Default",
    "Depth",
    "Error",
    "Feature",
    "Limits",
    "Message",
    "Messages",
    "MissingBackend",
    "NoReply",
    "Producer",
    "Progress",
    "ProtocolError",
    "Queue",
    "QueueError",
    "QueueFull",
    "QueueMismatch",
    "QueueNotFound",
    "Rejected",
    "RemoteError",
    "RequestError",
    "Retry",
    "RetryLater",
    "SendError",
    "SettleError",
    "Support",
    "TooLarge",
    "Topic",
    "TransportError",
    "Undecodable",
    "Unroutable",
    "Unsupported",
    "connect",
]
