"""The simulated people and machines.

Each acts only through the public gRPC APIs and decides only from what the
platform publishes and from its own slice of the world. None of these modules
imports `services.world.truth` (a test proves it).
"""
