"""What can go wrong at a gateway, by name.

base          a fault: parameters, beginning, end, and the messages it alters
transport     sockets: resets, silence, stalls, broken frames
upstream      the line from the gateway to the broker: 1100, farms, nights, restarts, client ids
orders        statuses, executions and commissions: late, twice, out of order, missing, corrected
data          quotes, headlines and clocks
notices       bulletins
catalog       all of them by name, with their declarations checked
scenario      when which fault happens, from YAML
director      lets them happen, in market time, and writes the journal
"""
