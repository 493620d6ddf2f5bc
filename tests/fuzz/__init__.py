"""Programs that feed bytes of strangers to everything that reads them (``make fuzz MINUTES=5``).

One module per parser, at the place in the tree that its parser has in the product; ``table`` lists them. ``kit`` says
what a target is, ``mutate`` makes inputs where atheris cannot be had, ``child`` runs one target, ``__main__`` all of
them. What was found is kept in ``cases/<target>/`` and tried again by ``test_cases`` in every run of the tests.
"""
