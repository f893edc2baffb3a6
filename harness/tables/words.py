"""Numbers in words: the one place that says how the program writes a share, a difference, a time or a size.

Each function takes None for "not measured" and gives `MISSING` for it.
"""

from __future__ import annotations

MINUS, NBSP = "\u2212", "\u00a0"
MISSING = "\u2013"  # a number that is not there


def percent(share: float | None, digits: int = 1) -> str:
    """0.612 -> "61.2"; the unit stands in the heading or in the sentence."""
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def points(difference: float | None) -> str:
    """A signed difference in percentage points: 0.189 -> "+18.9".

    It gets a second decimal where one alone would hide on which side of zero it is.
    """
    if difference is None:
        return MISSING
    size = 100 * abs(difference)
    text = f"{size:.1f}" if f"{size:.1f}" != "0.0" else f"{size:.2f}"
    return "0.0" if text == "0.00" else ("+" if difference > 0 else MINUS) + text


def interval(low: float | None, high: float | None) -> str:
    """Of a difference: "+16.0 to +21.8", or "no interval" where the data give none."""
    return "no interval" if low is None or high is None else f"{points(low)} to {points(high)}"


def p_value(p: float | None) -> str:
    """Three decimals without the leading zero; "<.001" below that."""
    if p is None:
        return MISSING
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def number(value: float | None, digits: int = 3) -> str:
    """An integer with thousands separators, a fraction with `digits` decimals."""
    if value is None:
        return MISSING
    return (f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}").replace("-", MINUS)


def significant(value: float | None, digits: int = 3) -> str:
    """A measurement: so many significant digits, and the whole integer part."""
    if value is None:
        return MISSING
    return (f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}").replace(
        "-", MINUS
    )


def signed(value: int) -> str:
    """A difference of counts: +3, 0 with its sign too."""
    return f"{value:+,d}".replace("-", MINUS)


def ratio(value: float | None) -> str:
    """ "1.25x"."""
    return MISSING if value is None else f"{value:.2f}x"


def duration(seconds: float | None) -> str:
    """ "48 s", "3 min 05 s", "2 h 07 min"."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def roughly(seconds: float) -> str:
    """A time that is not known better: "about 25 s", "about 4 min", "about 2 h 10 min"."""
    if seconds < 57.5:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes if minutes < 20 else 5 * round(minutes / 5)} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"about {hours} h" + (f" {rest} min" if rest and hours < 10 else "")


def speed(tokens_per_second: float | None) -> str:
    """ "15.8k tok/s"."""
    return f"{amount(tokens_per_second).replace(' ', '')} tok/s"


def amount(value: float | None) -> str:
    """A large count in three digits: "1.23 M", "450 k", "7.62 B"; below a thousand as it is."""
    if value is None:
        return MISSING
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


def size(count: float | None) -> str:
    """Bytes as "80 GB", "1.5 GB", "12 MB": powers of ten, as cards and disks are sold."""
    if count is None:
        return MISSING
    if count >= 10e9:
        return f"{count / 1e9:,.0f} GB"
    return f"{count / 1e9:.1f} GB" if count >= 0.1e9 else f"{count / 1e6:.0f} MB"


def counted(count: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
