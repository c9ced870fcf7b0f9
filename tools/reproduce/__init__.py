"""The thesis's tables and figures made again: one file for each table or group of figures."""
