"""Drawings as SVG, made from numbers on the server."""
