"""Turns an original into what a chat shows: files in, files out, in child processes with limits."""
