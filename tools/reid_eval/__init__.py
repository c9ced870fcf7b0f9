"""``trackvae reid-eval``: how well a descriptor recognises who is in a box."""
