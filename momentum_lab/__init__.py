"""Event-driven momentum trading on Interactive Brokers, from headline to chart."""
