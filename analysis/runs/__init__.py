"""What a run is: its configuration, its sessions, its status."""
