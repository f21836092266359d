"""The running system. The files read in the order in which a headline travels."""
