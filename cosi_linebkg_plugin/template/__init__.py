"""The distribution of adjacent energies, carried into the source range."""
