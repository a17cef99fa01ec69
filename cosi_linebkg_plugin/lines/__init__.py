"""Which lines are there: the catalogue, and the search."""
