# A trace without events.
