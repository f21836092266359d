"""`RunDiary`: what happens to a run beside its trades, and which store it may be written into."""

from __future__ import annotations

import logging
from typing import Any

from momentum_lab.clock import Clock, now_or_none
from momentum_lab.core.connection import ConnectionEvent, ConnectionState
from momentum_lab.errors import ParameterError, RecordError
from momentum_lab.live.run_identity import revision
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore, masked

_log = logging.getLogger(__name__)


class RunDiary:
    """Writes down a run's beginning, the steps of its connection and its incidents.

    What cannot be written is logged: a session that holds positions does not end for it.
    """

    def __init__(
        self, store: TradeStore, clock: Clock, *, run_id: str, parameters: Parameters
    ) -> None:
        """Make a diary without an entry."""
        self._store = store
        self._clock = clock
        self._run_id = run_id
        self._parameters = parameters

    def begin(self) -> None:
        """Write the run down.

        Raises:
            RecordError: the store has runs of a mode that must not be mixed with this one.
        """
        self._refuse_store()
        self._store.start_run(
            self._run_id,
            mode=self._parameters.mode,
            account=self._parameters.account,
            strategy=self._parameters.strategy,
            params_hash=self._parameters.params_hash,
            params=_without_accounts(self._parameters),
            revision=revision(),
        )

    def _refuse_store(self) -> None:
        """Keep real, simulated and merely decided trades apart: days and limits are summed.

        A session that sends nothing could close nothing, so that its store has no open trades.
        """
        mode = self._parameters.mode
        others = sorted(
            found for found in self._store.modes() - {mode} if {"live", "shadow"} & {found, mode}
        )
        if others:
            raise RecordError(
                f"{self._store.path}: mode {mode} expects a trade store of its own"
                f" (records.database), found runs of mode {', '.join(others)} in this one"
            )
        n_trades = len(self._store.open_trades())
        if mode == "shadow" and n_trades:
            raise RecordError(
                f"{self._store.path}: mode shadow sends nothing and could not close the {n_trades}"
                " open trades of this store"
            )

    def hold_account(self, account: str) -> None:
        """Write down the account that the login opened.

        Raises:
            ParameterError: the store keeps the trades of another account. Against this one they
                would be taken for closed by somebody else.
        """
        ours = masked(account)
        if others := sorted(self._store.accounts(self._parameters.mode) - {ours}):
            raise ParameterError(
                f"{self._store.path}: account {ours} expects a trade store of its own"
                f" (records.database), found trades of account {', '.join(others)} in this one"
            )
        self._store.update_run(self._run_id, account=ours)

    def note_start(self, market_ns: int) -> None:
        """Write down when the session began to trade; a figure for later, that ends nothing."""
        try:
            self._store.update_run(self._run_id, market_start_ns=market_ns)
        except RecordError:
            _log.exception("start of the session not recorded")

    def note_transition(self, state: ConnectionState, event: ConnectionEvent, cause: str) -> None:
        """Write down a step of the connection."""
        try:
            self._store.add_transition(
                self._run_id,
                at_ns=now_or_none(self._clock),
                state=state.value,
                event=event.value,
                cause=cause,
            )
        except RecordError:
            _log.exception("connection step not recorded")

    def note_incident(self, kind: str, text: str, symbol: str | None = None) -> None:
        """Write down, and log, what a person should look at."""
        _log.warning("incident: %s: %s", kind, text)
        try:
            self._store.add_incident(
                self._run_id, at_ns=now_or_none(self._clock), kind=kind, text=text, symbol=symbol
            )
        except RecordError:
            _log.exception("incident not recorded")


def _without_accounts(parameters: Parameters) -> dict[str, Any]:
    """Return the set as it is stored: ids of accounts can be told apart, but not read."""
    found = parameters.as_dict()
    found["account"] = masked(parameters.account)
    found["real_money"]["accepted_for"] = masked(parameters.real_money.accepted_for)
    return found
