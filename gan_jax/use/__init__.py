"""What a trained run is for: drawn from in Python."""
