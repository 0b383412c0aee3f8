"""The decoder in torch: attention, router, experts; and the slow dense reference it is checked against."""
