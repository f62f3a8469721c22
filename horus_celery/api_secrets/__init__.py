"""The secrets of the API: given in the configuration, or added and removed later."""
