"""What generates, renders and checks the charts of `charts/`."""
