"""Where experts lie: stores, slots, weight views, and what pulls copy."""
