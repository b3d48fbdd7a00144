"""The SAM 2 network in torch: pure modules without state between calls."""
