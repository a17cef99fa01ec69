"""Whole files or none, HDF5, guards against hostile input."""
