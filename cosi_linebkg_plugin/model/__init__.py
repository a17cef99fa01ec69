"""The background spectrum in astromodels, built and read."""
