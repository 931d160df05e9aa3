"""Money is a whole number of nanodollars (a billionth of a dollar): the cheapest token has a whole price, sums never round."""

from decimal import ROUND_CEILING, Decimal, InvalidOperation

NANODOLLARS = 1_000_000_000


def nanodollars_from_usd(text: str | int | float | Decimal) -> int:
    """Dollars as people write them, to nanodollars; a fraction of a nanodollar is rounded up."""
    try:
        amount = Decimal(str(text))
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not an amount of dollars") from error
    if not amount.is_finite():
        raise ValueError(f"{text!r} is not an amount of dollars")
    return int((amount * NANODOLLARS).to_integral_value(rounding=ROUND_CEILING))


def usd_from_nanodollars(amount: int) -> str:
    """Exact decimal dollars, at least two places: 1_500_000_000 -> '1.50'."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), NANODOLLARS)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"
