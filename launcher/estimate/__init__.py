"""What a run would take on this machine, measured before it is started."""
