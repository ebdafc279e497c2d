"""What a station learns on the device: corrections, a local expert, honest intervals. NumPy alone.

A cycle first takes the verdicts that are in, then moves the forecast that a bundle has just made. The running agent and
`hindcast` do the same in the same order. Must never use a reading that was not known at the origin, and is not used
where it is worse than the bundle alone by verified error.
"""
