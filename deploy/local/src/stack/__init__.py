"""The embedded stack: every real part of Aquifer as a supervised child process."""
