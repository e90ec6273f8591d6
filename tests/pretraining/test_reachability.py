"""A host that is there and one that is not, told apart without anything listening."""

import socket

import pytest

from pretraining.reachability import own_address, silent_hosts


def test_a_host_that_refuses_is_there_and_one_that_says_nothing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real refusal on this machine; for the host that is gone, what the system raises then."""
    real, asked = socket.create_connection, []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(address[0])
        if address[0] == "10.0.0.7":
            raise TimeoutError
        if address[0] == "10.0.0.8":
            raise OSError(113, "No route to host")
        return real(address, timeout)

    monkeypatch.setattr(socket, "create_connection", connect)
    assert silent_hosts(["127.0.0.1", "10.0.0.7", "127.0.0.1", "10.0.0.8"]) == ["10.0.0.7", "10.0.0.8"]
    assert asked == ["127.0.0.1", "10.0.0.7", "10.0.0.8"]  # each once
    assert silent_hosts(["127.0.0.1"]) == []


def test_own_address_is_that_of_the_way_to_the_other() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"
