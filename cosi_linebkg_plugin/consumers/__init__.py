"""What other COSI likelihoods take of a template; cosipy itself is never imported."""
