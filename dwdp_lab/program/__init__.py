"""What each rank does, as data: operations on lanes, joined by events."""
