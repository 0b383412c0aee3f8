"""One GPU as ranks use it: streams, events, copies, a gate and a clock, sensors."""
