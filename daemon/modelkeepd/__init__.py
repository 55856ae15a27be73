"""modelkeepd: the daemon that owns the catalog, the library and the download queue."""
