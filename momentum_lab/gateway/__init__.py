"""The paper gateway: an independent program that speaks the TWS socket protocol.

It plays a recorded market day to the unmodified client library over TCP. From the outside in:

server, settings        start, listen, stop
hub, session            the clock and who hears what; one connection
answers                 one answer for each request, by subject
broadcast               what is told without being asked for
limits, news_desk       what clients are allowed, and how long news takes
bulletins               what the broker announces
messages, account_messages, ticks, subscriptions   values as fields of messages
wire                    the protocol without sockets: bytes <-> messages
exchange, account       orders, fills, cash and margin
books, ledger, matching, checks, orders   the exchange's parts, each without the others' concerns
market, line, history, hours, pace, catalog   the tape: prices, bars, sessions, speed, contracts
voice                   ticks as messages that a fault may change, or at once as bytes
streaming, streams      quotes, tick-by-tick data, depth and real-time bars to those who want them
faults, control, journal   what goes wrong, who lets it, and what truly happened
virtual                 client and gateway in one event loop whose time jumps
state                   what outlives a restart

Not played: options, combinations, scanners and what `wire.requests.NOT_SERVED` lists; each is
refused with an error.
"""
