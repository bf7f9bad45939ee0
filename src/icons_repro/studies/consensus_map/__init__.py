"""When does consensus help? The design of its cells, what they found, tables and charts."""
