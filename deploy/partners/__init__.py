"""What partners get: the contract as a bundle, its reference, the table of errors."""
