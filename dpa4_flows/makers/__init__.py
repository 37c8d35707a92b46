"""Makers: jobs and flows, as values that serialise. They wire; the physics is in `dpa4_core` and
`dpa4_flows.analysis`.
"""
