"""What moves workflows on: which are let in, and how their steps are started."""
