"""What happened, when: the one form in which simulated and measured runs are kept."""
