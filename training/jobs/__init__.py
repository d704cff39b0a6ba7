"""Work as jobs of a cluster, and shared by processes of this machine."""
