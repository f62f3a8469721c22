"""Workflows as graphs: what may run when, decided without a store or a clock."""
