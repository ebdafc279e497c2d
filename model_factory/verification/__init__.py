"""How good a model is: scores on pairs of forecast and observation, beside baselines on the same pairs."""
