"""Out over MQTT: topics, payloads with their JSON Schemas, the connection, and what is sent again after it broke.

Must never keep the main loop waiting for a network, publish a number without its unit and source, or tell a password.
"""
