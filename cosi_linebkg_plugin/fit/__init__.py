"""Poisson fits of energy spectra with derivatives, and what they find."""
