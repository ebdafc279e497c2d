"""Quality control: what is wrong with a value, how badly, and why.

Raw values are kept; nothing here alters one. It must never judge a reading by a forecast or by what came later.
"""

from edge_agent.quality.control import QualityControl

__all__ = ["QualityControl"]
