"""The launcher, which runs commands as users of the system."""
