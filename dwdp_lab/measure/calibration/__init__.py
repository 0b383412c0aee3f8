"""What this machine reaches, measured with its own ranks, as a hardware profile for the simulator."""
