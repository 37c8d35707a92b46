"""Competing phases: where their structures come from and which of them a campaign needs."""
