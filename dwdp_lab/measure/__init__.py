"""Measuring this machine: copies and contention, calibration, strategies side by side."""
