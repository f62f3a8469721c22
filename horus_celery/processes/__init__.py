"""How the programs of a deployment are started, watched and ended."""
