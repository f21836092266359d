"""`python -m momentum_lab.gateway`: a paper gateway as a process of its own."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import MomentumLabError
from momentum_lab.gateway.server import GatewaySettings, run


def main() -> int:
    """Read the command line, run the gateway, return the exit code."""
    given = _parser().parse_args()
    try:
        run(
            GatewaySettings(
                tape=given.tape,
                host=given.host,
                port=given.port,
                account=given.account,
                cash_usd=given.cash,
                fast=given.fast,
                slow=given.slow,
                watch_s=given.watch,
                lead_s=given.lead,
                start_ns=given.start,
                hold=not given.no_hold,
                state=given.state,
                volume_ticks=given.volume_ticks,
                wire_log=given.wire_log,
            ),
            report=_say,
        )
    except MomentumLabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp()) * NS_PER_S


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m momentum_lab.gateway", description=__doc__)
    parser.add_argument("tape", type=Path, help="folder of the tape to play")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4002, help="0 takes a free port")
    parser.add_argument("--account", default="DU1234567")
    parser.add_argument("--cash", type=float, default=1_000_000.0, help="US dollars")
    parser.add_argument("--fast", type=float, default=1800.0, help="speed where nothing is open")
    parser.add_argument("--slow", type=float, default=60.0, help="speed where something is")
    parser.add_argument("--watch", type=float, default=300.0, help="slow after a headline, s")
    parser.add_argument("--lead", type=float, default=5.0, help="slow before a headline, s")
    parser.add_argument("--start", type=_instant, help="ISO date and time, UTC without a zone")
    parser.add_argument("--no-hold", action="store_true", help="do not wait for a subscription")
    parser.add_argument("--state", type=Path, help="file that survives a restart")
    parser.add_argument("--volume-ticks", choices=("lots", "shares"), default="lots")
    parser.add_argument("--wire-log", type=Path, help="file for every message")
    return parser


if __name__ == "__main__":
    sys.exit(main())
