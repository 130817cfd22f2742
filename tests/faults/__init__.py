"""Kill and stop everything under load; then read the stores: nothing is lost, doubled, stuck.

`load` and `upstream` work, `injection` and `space` break, `journal` writes both down, `evidence`
reads the stores afterwards, `checker` and `order` compare the two.
"""
