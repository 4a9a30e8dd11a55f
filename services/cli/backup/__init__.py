"""A copy of everything that the platform keeps, databases and topics; checked, and laid back."""
