"""What a bundle is, and whether one may be used: reading, checking, trying it on its golden samples, showing it.

A bundle is data from outside. Nothing here may run code from one, follow a path in one, or let the agent load a foreign
one that a child process has not tried before.
"""
