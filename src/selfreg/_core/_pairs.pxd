# Values with twice the digits of a double, as an unevaluated sum of two.

cdef struct Pair:
    double high
    double low


cdef inline Pair exact_sum(double a, double b) noexcept nogil:
    """a + b and its rounding error (Knuth)."""
    cdef Pair out
    cdef double part
    out.high = a + b
    part = out.high - a
    out.low = (a - (out.high - part)) + (b - part)
    return out


cdef inline Pair split(double a) noexcept nogil:
    """Upper and lower half of the digits (Veltkamp)."""
    cdef Pair out
    cdef double scaled = 134217729.0 * a  # 2^27 + 1
    out.high = scaled - (scaled - a)
    out.low = a - out.high
    return out


cdef inline Pair times(double p, Pair x) noexcept nogil:
    """p x; the rounding error of p times x.high as by Dekker."""
    cdef Pair out, a = split(p), b = split(x.high)
    out.high = p * x.high
    out.low = ((a.high * b.high - out.high) + a.high * b.low + a.low * b.high) + a.low * b.low
    out.low += p * x.low
    return out


cdef inline Pair plus(Pair a, Pair b) noexcept nogil:
    cdef Pair out = exact_sum(a.high, b.high)
    out.low += a.low + b.low
    return exact_sum(out.high, out.low)


cdef inline Pair add_gain(Pair sum, double p, double high, double low, double own_high, double own_low) noexcept nogil:
    """sum + p (x - own) for x = high + low and own = own_high + own_low."""
    cdef Pair term = exact_sum(high, -own_high)
    term.low += low - own_low
    return plus(sum, times(p, term))
