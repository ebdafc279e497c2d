"""How good a model is: scores on pairs of forecast and observation, beside baselines on the same pairs.

Must never let anything later than an origin reach a forecast, or compare sources on different pairs.
"""
