"""The fault campaign: kills parts under load, then checks that nothing is lost, doubled or stuck.

`load` and `upstream` work, `injection` and `space` break, `journal` writes both down, `evidence`
reads the stores afterwards, `checker` and `order` compare the two.
"""
