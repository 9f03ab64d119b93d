"""The version, in one place: read by the build, by ``__init__`` and by the command line."""

__version__ = "0.1.0"
