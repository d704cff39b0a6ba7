"""The variables of the environment that the zoo reads, a row each, as help and pages name them."""

from __future__ import annotations

VARIABLES = {
    "ROBUST_ZOO_CACHE": "Where verified weights are kept, instead of the platform's user cache.",
    "ROBUST_ZOO_PATH": "Directories with weights or site caches, searched first, never written.",
    "ROBUST_ZOO_MIRRORS": "Further base addresses that hold the same file names, or NAME.safetensors of what was "
    "published; a name and password in one are told to it alone, and never printed.",
    "ROBUST_ZOO_DRIVE": "A server that is asked instead of Google Drive's, in the same form.",
    "ROBUST_ZOO_OFFLINE": "1: open no socket. HF_HUB_OFFLINE means the same.",
    "ROBUST_ZOO_TIMEOUT": "Seconds that a source may be silent, or take for the head of an answer; 12 when unset.",
    "ROBUST_ZOO_MIN_RATE": "Bytes per second that a source must send on average; 10000 when unset, 0 for any.",
    "ROBUST_ZOO_DEBUG": "1: show the traceback of an error, as --debug does.",
    "HF_ENDPOINT": "The hub's address, as in huggingface_hub; its word on a hash counts over https, or on this "
    "machine, only.",
    "HF_TOKEN": "A token for the hub, as in huggingface_hub; it is sent over https, or to this machine, only.",
}
