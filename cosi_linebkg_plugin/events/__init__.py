"""Event lists to histograms."""
