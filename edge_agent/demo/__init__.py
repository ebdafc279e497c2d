"""`edge-agent demo`: two recorded stations, a broker and an independent subscriber around an ordinary agent.

Only for showing. Must never treat the agent otherwise than a user would: by its configuration, a serial line and a
broker, on the recording's clock.
"""
