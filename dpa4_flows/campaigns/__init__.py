"""Screening campaigns: their files, the funnels as flows, and run folders."""
