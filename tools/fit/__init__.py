"""``trackvae fit``: an encoder from a video's own detections, without labels."""
