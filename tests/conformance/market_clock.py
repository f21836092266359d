"""The gateway's control channel as a client's process speaks it: JSON lines on the same port."""

from __future__ import annotations

import json
import socket
from typing import Any

LIMIT_S = 10.0


class MarketClock:
    """Moves the market time of a gateway that stands still otherwise."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self._socket.sendall(b"CTL\n")
        self._replies = self._socket.makefile("rb")

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command, e.g. `do="status"`, and return its answer."""
        self._socket.sendall(json.dumps(command).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._replies.readline())
        if not answer.pop("ok"):
            raise RuntimeError(answer["error"])
        return answer

    def play(self, seconds: int) -> None:
        """Let market seconds pass, one by one."""
        for _ in range(seconds):
            self.ask(do="step", seconds=1)

    def close(self) -> None:
        """End the conversation."""
        self._replies.close()
        self._socket.close()
