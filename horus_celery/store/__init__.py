"""The store: the truth of what happened to every job."""
