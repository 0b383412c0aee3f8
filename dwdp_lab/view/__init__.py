"""Figures and widget panels."""
