"""Where training data comes from: raw folders and answers in, series in the vocabulary out.

Nothing here trains. Must never fetch by itself, fill a gap, or take a value out without counting it.
"""
