"""A trained run as one checked file: graph, manifest, golden samples, card.

Must never write a bundle that the agent's own reader refuses, or state a figure in a card that was neither
measured nor called an estimate.
"""
