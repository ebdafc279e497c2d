"""What time it is, how well that is known, and what follows where it was not known.

A Raspberry Pi has no clock of its own: after a power cut it may wake in 1970 or at its last shutdown, and learn the
time minutes or weeks later. Here the sources of time are weighed against each other (`sources`), the agent's own time
is kept (`station_clock`), and what was stamped without knowing is put right (`keeper`). Never sets the system's clock.
"""
