"""What the client library reads from a message, by the names that it gives to the parts."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from ib_insync.decoder import Decoder
from ib_insync.wrapper import Wrapper


class Listener:
    """Stands where the client library calls its wrapper, and where it logs what it drops.

    Attributes:
        calls: method and arguments of every call.
        errors: what it logged, with the fault.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.errors: list[str] = []

    def exception(self, text: str) -> None:
        self.errors.append(text)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.calls.append((name, arguments))


def heard(fields: list[str], version: int) -> Listener:
    """Let the client library's own decoder read a message."""
    listener: Any = Listener()
    decoder: Any = Decoder(listener, version)
    decoder.logger = listener
    decoder.interpret(fields)
    found: Listener = listener
    return found


# Our name -> what the library calls it, where that is another word.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "account": ("accountid", "acctnumber"),
    "accounts": ("accountslist",),
    "askprice": ("priceask",),
    "asksize": ("sizeask",),
    "bidprice": ("pricebid",),
    "bidsize": ("sizebid",),
    "bit": ("bitnumber",),
    "bondyield": ("yield",),
    "bulletintype": ("msgtype",),
    "code": ("errorcode",),
    "end": ("enddatetime",),
    "exchange": ("exch", "origexchange"),
    "execexchange": ("exchange",),
    "familycode": ("familycodestr",),
    "isdone": ("done",),
    "key": ("tag",),
    "label": ("displayname",),
    "lasttradedate": ("lasttradedateorcontractmonth",),
    "letter": ("exchangeletter",),
    "listingexchange": ("listingexch",),
    "marketdatatype": ("marketdataid",),
    "marketvalue": ("value",),
    "messageid": ("msgid",),
    "ordercombolegprices": ("price",),
    "orderid": ("reqid",),
    "position": ("possize", "pos"),
    "softdollartierdisplayname": ("displayname",),
    "softdollartiername": ("name",),
    "softdollartiervalue": ("val",),
    "start": ("startdatetime",),
    "text": ("errorstring", "value", "message", "articletext"),
    "time": ("timestamp",),
    "timems": ("timestamp",),
    "times": ("time",),
    "timestamp": ("headtimestamp",),
    "type": ("condtype",),
    "underconid": ("underlyingconid",),
    "value": ("val",),
    "wap": ("average",),
}


def unheard(values: Mapping[str, Any], listener: Listener) -> dict[str, list[Any]]:
    """Return name -> the values that were sent under it and heard under no name of theirs."""
    heard_of, found = parts_heard(listener), {}
    for name, sent in parts_sent(values).items():
        known = sum((heard_of.get(n, Counter()) for n in (name, *ALIASES.get(name, ()))), Counter())
        missing = list((sent - known).elements())
        if missing:
            found[name] = missing
    return found


def parts_heard(listener: Listener) -> dict[str, Counter[Any]]:
    """Return name -> how often each value was heard under it, names without case and blanks."""
    found: dict[str, Counter[Any]] = {}
    for method, arguments in listener.calls:
        known = getattr(Wrapper, method, None)
        names = list(inspect.signature(known).parameters)[1:] if known is not None else []
        for name, value in zip(names, arguments, strict=False):
            _add(found, name, value)
    return found


def parts_sent(values: Mapping[str, Any]) -> dict[str, Counter[Any]]:
    """Return the same of what was sent; what is not set is left out."""
    found: dict[str, Counter[Any]] = {}
    for name, value in _leaves(values):
        if value is not None:
            found.setdefault(plain(name), Counter())[_normal(value)] += 1
    return found


def plain(name: str) -> str:
    """Return a name as both sides spell it."""
    return name.replace("_", "").lower()


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        elif isinstance(value, tuple):
            for entry in value:
                yield from _leaves(entry) if isinstance(entry, Mapping) else [(name, entry)]
        else:
            yield name, value


def _add(found: dict[str, Counter[Any]], name: str, value: Any) -> None:
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        for entry in value:
            _add(found, name, entry)
        return
    inner = _inside(value)
    for inner_name, inner_value in inner.items():
        _add(found, inner_name, inner_value)
    if not inner:
        found.setdefault(plain(name), Counter())[_normal(value)] += 1


def _inside(value: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return value._asdict() if hasattr(value, "_asdict") else {}


def _normal(value: Any) -> Any:
    """Return a value so that the same one is equal on both sides: numbers may come as texts."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, date):
        return float(f"{value:%Y%m%d}")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return float(value) if isinstance(value, (int, float)) else value
