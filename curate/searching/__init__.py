"""`search`: which examples to train on, measured on the model itself."""
