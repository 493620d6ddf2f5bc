"""Refusals as clients see them: a status, a code for programs, a sentence for people."""

from __future__ import annotations

from typing import Final

from billing.terms import BillingRefusal
from config.http import ApiError

_STATUS: Final = {
    BillingRefusal.INSUFFICIENT_FUNDS: 402,
    BillingRefusal.NO_RATE: 404,
    BillingRefusal.NO_WALLET: 404,
    BillingRefusal.CURRENCY_MISMATCH: 409,
    BillingRefusal.KEY_REUSED: 409,
    BillingRefusal.BAD_AMOUNT: 400,
    BillingRefusal.ALREADY_SETTLED: 409,
    BillingRefusal.NOT_SETTLED: 409,
    BillingRefusal.NOT_METERED: 409,
    BillingRefusal.NO_SUCH_SESSION: 404,
    BillingRefusal.NO_SUCH_CHARGE: 404,
    BillingRefusal.NO_SUCH_PACKAGE: 404,
    BillingRefusal.PACKAGE_IN_USE: 409,
    BillingRefusal.PACKAGE_OVER: 409,
    BillingRefusal.TOO_MUCH: 409,
}


def refused(refusal: BillingRefusal) -> ApiError:
    """A refusal as the client sees it."""
    return ApiError(_STATUS[refusal], refusal.value, refusal.message)
