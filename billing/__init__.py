"""The meter and the ledger. One charge's way, in file order:

``money`` says what a time costs, and how that is split; ``terms`` are the words (rates, wallets, receipts, refusals).
``leases`` says which shards this process meters. Evidence of media comes to ``accrual``, which knows each session's
live time, what it has cost so far, when to post it, and when to warn; ``meter`` is its shell and calls the tick.
``store``, ``tariffs`` and ``meter_store`` hold the SQL (the tick itself is in the migration): one transaction moves the
mark, the money and the hold. ``service`` is what the rest of Turnpike calls; ``api`` what clients do; ``reconcile``
proves the books, with the table in ``checks``. Beside it: ``charges`` and ``packages`` (what is paid at once or ahead,
and given back), ``recovery`` (debts paid off), ``story`` (one session's money), ``finance`` with ``finance_api``.
"""
