"""A sandbox that a partner's program is pointed at, and that says what the program does wrong."""
