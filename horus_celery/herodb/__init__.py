"""HeroDB: the data of scripts, a part of a Redis for each context."""
