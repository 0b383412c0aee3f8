"""The interactive timeline: thousands of spans on a canvas, redrawn within a frame."""
