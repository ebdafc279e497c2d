"""Where training data comes from: raw folders and answers in, series in the vocabulary out. Nothing here trains."""
