"""The networks. Everything between physical units and physical units is inside them, so that a bundle is the whole
forecast function; never reads files, never knows how it is trained."""
