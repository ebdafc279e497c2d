"""From station series to a trained run: samples, the loop in reading order, the loss. Never scores on a test period."""
