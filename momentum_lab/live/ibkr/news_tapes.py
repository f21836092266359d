"""The broad news tapes: which ones there are, and when one has to be asked for again.

A provider may be refused at the start and served an hour later, and a tape that was refused looks
like one on which nothing happens. So providers without a tape are looked up again and again, and a
tape is asked for anew when the broker says "later" or a farm is there again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio
import ib_insync

from momentum_lab.clock import transport_s
from momentum_lab.errors import BrokerError, ConnectionLostError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.asking import ask
from momentum_lab.live.ibkr.codes import Reaction, code_of

_log = logging.getLogger(__name__)

_LATER_S = 60.0


@dataclass(slots=True, eq=False)
class Tape:
    """A broad news tape.

    Attributes:
        provider: provider code.
        name: the tape's own name, e.g. "BRFG:BRFG_ALL".
        request: id of the subscription in this connection, None when there is none.
        words: the broker's refusal; empty when there was none.
        heard_s: transport time of its last headline, -inf before the first of the connection.
        due_s: transport time from which on it is to be asked for anew, inf where it is not.
    """

    provider: str
    name: str
    request: int | None = None
    words: str = ""
    heard_s: float = -math.inf
    due_s: float = math.inf
    _doubted_s: float = math.inf
    _told: str = ""
    _told_s: float = -math.inf

    def begin(self, request: int) -> None:
        """It has been asked for."""
        self.request, self.words = request, ""
        self.due_s = self._doubted_s = math.inf

    def doubt(self, *, patience_s: float) -> None:
        """What it is fed by was away: ask anew, unless a headline comes in time."""
        if self.request is not None:
            self._doubted_s = transport_s()
            self.due_s = self._doubted_s + patience_s

    def refuse(self, words: str, *, due_s: float) -> bool:
        """The broker refuses it; return whether that is worth telling.

        Where it is refused over and over in the same words, once is enough.
        """
        now_s = transport_s()
        is_news = words != self._told or self.heard_s >= self._told_s
        self.words, self.due_s = words, due_s
        if is_news:
            self._told, self._told_s = words, now_s
        return is_news

    def park(self) -> None:
        """Its connection is gone."""
        self.request, self.words, self.heard_s = None, "", -math.inf
        self.due_s = self._doubted_s = math.inf
        self._told, self._told_s = "", -math.inf

    def is_due(self) -> bool:
        """Whether it has to be asked for now, the first time or anew."""
        if self.request is None:
            return True
        has_spoken = not self.words and self.heard_s >= self._doubted_s
        return transport_s() >= self.due_s and not has_spoken


class Tapes:
    """The tapes of all wanted providers, kept over reconnects once they are found."""

    def __init__(
        self,
        providers: Sequence[str],
        *,
        timeout_s: float,
        on_incident: Callable[[str, str], None],
    ) -> None:
        """Want none yet.

        Args:
            providers: codes of the wanted providers.
            timeout_s: time limit of one look-up, transport time.
            on_incident: hears (kind, text) of a tape that cannot be had.
        """
        self._providers = tuple(providers)
        self._timeout_s = timeout_s
        self._on_incident = on_incident
        self._is_wanted = False
        self._found: list[Tape] = []
        self._told: dict[str, str] = {}
        # Two who look up the same provider would find its tapes twice.
        self._finding = anyio.Lock()

    def __iter__(self) -> Iterator[Tape]:
        """Iterate over the tapes that were found, in the order in which they were."""
        return iter(self._found)

    def __len__(self) -> int:
        """Return how many were found."""
        return len(self._found)

    def want(self) -> None:
        """Want them, from the next look-up on."""
        self._is_wanted = True

    @property
    def are_missing(self) -> bool:
        """Whether a wanted provider has no tape yet."""
        return bool(self._without_tape())

    async def find(self, ib: ib_insync.IB) -> None:
        """Ask each wanted provider without a tape which ones it offers; none is an incident.

        Raises:
            ConnectionLostError: a request was not answered.
        """
        async with self._finding:
            for provider in self._without_tape():
                self._found += await self._tapes_of(ib, provider)

    def doubt(self, *, patience_s: float) -> None:
        """A farm is there again: tapes that were refused, or say nothing soon, are due."""
        for tape in self._found:
            tape.doubt(patience_s=patience_s)

    def due(self) -> list[Tape]:
        """Return the tapes that have to be asked for now, the first time or anew."""
        return [tape for tape in self._found if tape.is_due()]

    def hear_code(self, request: int, code: int, words: str) -> bool:
        """Take in what the broker says about a subscription; return whether it is a tape's."""
        tape = next((tape for tape in self._found if tape.request == request), None)
        if tape is None:
            return False
        is_for_now = code_of(code).reaction is Reaction.LOOK_AGAIN_LATER
        due_s = transport_s() + _LATER_S if is_for_now else math.inf
        if tape.refuse(words, due_s=due_s):
            self._on_incident("news tape", f"{tape.name}: {words}")
        else:
            _log.info("news tape: refused again name=%s text=%s", tape.name, words)
        return True

    def park(self) -> None:
        """The connection is gone; what was found stays."""
        for tape in self._found:
            tape.park()

    def _without_tape(self) -> list[str]:
        if not self._is_wanted:
            return []
        found = {tape.provider for tape in self._found}
        return [provider for provider in self._providers if provider not in found]

    async def _tapes_of(self, ib: ib_insync.IB, provider: str) -> list[Tape]:
        contract = translate.news_provider(provider)
        what = f"news tapes of {provider}"
        try:
            rows = await ask(
                what, lambda: ib.reqContractDetailsAsync(contract), timeout_s=self._timeout_s
            )
        except ConnectionLostError:
            raise
        except BrokerError as error:
            # The watch list's own headlines still come; one tape less is no reason to stop.
            self._tell_missing(provider, str(error))
            return []
        names = [row.contract.symbol for row in rows if row.contract is not None]
        if not names:
            self._tell_missing(provider, f"{what}: there is none")
        # The tape of everything holds what the others hold.
        whole = [name for name in names if name.endswith("_ALL")]
        return [Tape(provider, name) for name in whole or names]

    def _tell_missing(self, provider: str, words: str) -> None:
        """Say so once: it is looked up again and again."""
        if self._told.get(provider) != words:
            self._told[provider] = words
            self._on_incident("news tape", words)
