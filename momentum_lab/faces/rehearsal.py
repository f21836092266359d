"""A whole session against the paper gateway in one event loop of virtual time.

    result = rehearse(parameters, tape, root=folder)

The services, the client library, the protocol and the record are those of a live session; only
nobody waits. A day is played at 1x, every second of it, in as long as the computing takes, and
equal inputs give equal orders.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.server import paper_gateway
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.parameters import Parameters, ReplayParameters
from momentum_lab.records.tape import load_tape


def rehearse(
    parameters: Parameters,
    settings: GatewaySettings,
    *,
    root: Path,
    run_id: str = "rehearsal",
) -> SessionResult:
    """Trade a tape from its start to the end of the session and return how it ended.

    Args:
        parameters: a checked set of mode replay; port and speeds are the rehearsal's own.
        settings: the tape and the account of the gateway; speeds are set to 1x. Unless told
            otherwise the account is opened at the tape's start, so that its ids repeat too.
        root: folder that the record's paths are relative to.
        run_id: name of the run in the record.

    Raises:
        ParameterError: the mode is not replay.
        MomentumLabError: as `LiveSession.run` and `paper_gateway`.
    """
    if parameters.mode != "replay":
        raise ParameterError(f"mode: a rehearsal needs replay, found {parameters.mode}")
    opened_s = settings.opened_s
    if opened_s is None:
        opened_s = load_tape(settings.tape).start_ns // NS_PER_S
    played = replace(settings, fast=1.0, slow=1.0, opened_s=opened_s)
    return run_virtual(_trade, parameters, played, root, run_id)


async def _trade(
    parameters: Parameters, settings: GatewaySettings, root: Path, run_id: str
) -> SessionResult:
    async with paper_gateway(settings) as gateway:
        connection = replace(parameters.connection, host=gateway.host, port=gateway.port)
        here = replace(parameters, connection=connection, replay=ReplayParameters(speed=1, fast=1))
        return await LiveSession(here, root=root, run_id=run_id).run()
