"""Chance, as the system has it: Python's own is the program's, which may seed it, and all of its kind draw alike."""

from random import SystemRandom

chance = SystemRandom()
