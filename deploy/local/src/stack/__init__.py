"""The embedded stack: every part of Aquifer is a supervised child process."""
