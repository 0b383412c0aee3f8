"""The control room: knobs, machines, runs and their history on one panel."""
