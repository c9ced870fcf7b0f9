"""Files and streams: MOT text, sources of frames, sinks of tracks."""
