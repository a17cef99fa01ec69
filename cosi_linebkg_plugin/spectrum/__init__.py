"""Numbers of an energy spectrum: bins, line shapes, expected counts, statistic."""
