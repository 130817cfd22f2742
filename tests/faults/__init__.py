"""The fault campaign: kills parts under load, then checks that nothing is lost, doubled or stuck.

`load`, `upstream` and `conversing` work, `injection` and `space` break, `journal` writes it down,
`evidence` reads the stores afterwards, `checker`, `order` and `conversation_checker` compare them.
"""
