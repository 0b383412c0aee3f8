"""Copies between ranks, alone and many at once."""
