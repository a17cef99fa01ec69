"""Event histograms (histpy) read and written, sums of their energy slices, orientation."""
