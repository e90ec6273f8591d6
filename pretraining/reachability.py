"""Which hosts of a run still answer: a run that a dead host ended says which one it was, where torch's words name none.

Steps: (1) `own_address`, by which the other ranks would reach this host, is gathered while all ranks are there;
(2) after a collective failed, `silent_hosts` knocks at each address: a host that is there refuses the connection at
once, one that is gone does not answer.
"""

import socket
from collections.abc import Iterable

KNOCK_SECONDS = 3.0
PORT = 9  # "discard", where nobody listens: a host that is there refuses


def own_address(other: str) -> str:
    """The address of the interface through which this host reaches `other`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, PORT))
        return probe.getsockname()[0]


def silent_hosts(addresses: Iterable[str]) -> list[str]:
    """Those of the addresses, each once, at which no machine answers within seconds."""
    return [address for address in dict.fromkeys(addresses) if not _answers(address)]


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), KNOCK_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
