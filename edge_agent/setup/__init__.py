"""`edge-agent init` and `check`: a configuration, and whether everything it names is there.

Looks and tells what to do. Must never overwrite a file, change a system or disturb a running agent.
"""
