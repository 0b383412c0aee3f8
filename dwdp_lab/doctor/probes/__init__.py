"""What is looked at: each module has a `probe()` that runs in a process of its own and returns plain facts."""
