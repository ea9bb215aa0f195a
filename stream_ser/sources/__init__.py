"""Sources of audio: files, microphones, replays."""
