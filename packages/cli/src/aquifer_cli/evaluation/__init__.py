"""`aquifer eval`: how well a running stack finds documents and answers questions."""
