"""From a trained graph to its INT8 form, and what that costs beside FP32.

Must never be calibrated on what the result is scored on.
"""
