"""Memory of one rank that its peers can read: the driver's, and how it is handed over."""
