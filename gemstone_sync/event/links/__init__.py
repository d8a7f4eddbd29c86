"""The links: one connection to a broker each, through kombu. See `gemstone_sync.event.link`."""
