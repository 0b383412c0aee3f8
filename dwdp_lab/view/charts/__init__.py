"""The course's other plots: each a plain function of a scenario that returns a chart."""
