"""The official ibapi with every callback written down, of any version."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import ibapi.client
from ibapi.client import EClient
from ibapi.wrapper import EWrapper

from tests.conformance.desk import LIMIT_S, RefusedError

Call = tuple[str, dict[str, Any]]
_NOTES: Final = range(2100, 2200)
_ID_NAMES: Final = ("reqId", "tickerId", "requestId")
# In which the versions of the library differ.
_ONE_NAME: Final = {"commissionAndFeesReport": "commissionReport"}
_CALLBACKS: Final = {
    name: list(inspect.signature(function).parameters)[1:]
    for name, function in vars(EWrapper).items()
    if inspect.isfunction(function) and not name.startswith("_") and "Proto" not in name
}


class Recorder(EWrapper, EClient):  # type: ignore[misc] # where ibapi is, no type checker is
    """A client that only listens.

    Attributes:
        calls: every callback in its order, as (name, arguments by name).
        failure: what has ended the library's own message loop.
    """

    def __init__(self) -> None:
        EClient.__init__(self, self)
        self.calls: list[Call] = []
        self.failure: str | None = None
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def record(self, name: str, values: dict[str, Any]) -> None:
        """Keep one callback; runs in the library's thread."""
        with self._news:
            self.calls.append((name, values))
            self._news.notify_all()

    def start(self, port: int, client_id: int, version: int) -> None:
        """Connect and let the library's message loop run."""
        if version:
            ibapi.client.MAX_CLIENT_VER = version
        # What 9.81 asks for and forgets to set.
        self.connectionOptions = getattr(self, "connectionOptions", "")
        self.connect("127.0.0.1", port, client_id)
        self._thread = threading.Thread(target=self._loop, name="ibapi", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the connection and wait for the library's two threads to end."""
        threads = (self._thread, getattr(self, "reader", None))
        self.disconnect()
        # A socket that a thread still reads from is not closed before that has returned.
        for thread in threads:
            if thread is not None:
                thread.join(LIMIT_S)

    def _loop(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - told to the suite, whatever it is
            self.failure = repr(error)
            with self._news:
                self._news.notify_all()

    # -- reading what was written down ------------------------------------------------------

    def of(self, *names: str, req_id: int | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Return the arguments of some callbacks, of one request if its id is given."""
        found = [values for name, values in self.calls[since:] if name in names]
        return found if req_id is None else [v for v in found if id_of(v) == req_id]

    def until(self, is_done: Callable[[], Any]) -> Any:
        """Return what `is_done` gives as soon as it gives something."""
        end_s = time.monotonic() + LIMIT_S
        with self._news:
            while not (found := is_done()):
                if self.failure:
                    raise RuntimeError(f"the library's loop has ended: {self.failure}")
                if not self._news.wait(end_s - time.monotonic()):
                    raise TimeoutError(f"not answered; last of {self.calls[-5:]}")
            return found

    def answer(self, send: Callable[[], None], end: str, req_id: int | None = None) -> None:
        """Send a request and wait for the callback that ends its answer.

        Raises:
            RefusedError: it was answered by an error.
        """
        since = len(self.calls)
        send()
        self.until(lambda: self.of(end, req_id=req_id, since=since) or self._error(req_id, since))
        refused = self._error(req_id, since)
        if refused and not self.of(end, req_id=req_id, since=since):
            self.calls.remove(("error", refused))
            raise RefusedError(refused["errorCode"], refused["errorString"])

    def _error(self, req_id: int | None, since: int) -> dict[str, Any] | None:
        found = self.of("error", since=since)
        wanted = -1 if req_id is None else req_id
        own = [v for v in found if v["reqId"] == wanted and v["errorCode"] not in _NOTES]
        return own[0] if own else None


def id_of(values: dict[str, Any]) -> Any:
    """Return the request id of a callback's arguments."""
    return next((values[name] for name in _ID_NAMES if name in values), None)


def _recording(name: str, parameters: list[str]) -> Callable[..., None]:
    def callback(self: Recorder, *args: Any) -> None:
        told = _ONE_NAME.get(name, name)
        self.record(told, dict(zip(parameters, args)))  # noqa: B905 - trailing ones have defaults

    return callback


for _name, _parameters in _CALLBACKS.items():
    setattr(Recorder, _name, _recording(_name, _parameters))
