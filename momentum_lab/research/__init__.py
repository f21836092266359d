"""What would have been: recorded days under other parameters, by the very rules that trade."""
