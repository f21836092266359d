"""The paper gateway: an independent program that speaks the TWS socket protocol."""
