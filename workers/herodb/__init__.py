"""HeroDB as scripts have it: what stands between them and the Redis behind it."""
