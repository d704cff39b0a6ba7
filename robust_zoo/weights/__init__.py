"""Files: fetched, verified, converted once, cached, bundled. No torch but in the converting child process."""
