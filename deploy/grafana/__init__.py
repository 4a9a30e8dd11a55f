"""Dashboards as a program: `boards` says what is shown, `build` makes Grafana's JSON of it."""
