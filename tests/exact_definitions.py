"""The definitions behind ``bounds``, with plain sums and roots in Arb balls: what its floats are held against.

Laws and rewards are lists of balls, laws normalised; natural logarithms.
"""

from __future__ import annotations

import itertools

from flint import acb_mat, arb, arb_mat


def total(values):
    return sum(values, arb(0))


def mean(p, values):
    return total(m * v for m, v in zip(p, values, strict=True) if not m.is_zero())


def root(increasing, low, high, steps=400):
    """The root of an increasing function in [low, high], by regula falsi (Illinois) with bisection.

    Raises:
        ArithmeticError: it is not known to 150 bits after so many steps.
    """
    low, high = arb(low), arb(high)
    at_low, at_high = increasing(low), increasing(high)
    moved = None
    for step in range(steps):
        if at_low >= 0:
            return low
        if at_high <= 0:
            return high
        middle = (low + high) / 2
        if step % 6 and at_low.is_finite() and at_high.is_finite():
            middle = high - at_high * (high - low) / (at_high - at_low)
        middle = arb(middle.mid())
        value = increasing(middle)
        if value > 0:
            at_low = at_low / 2 if moved == "high" else at_low
            high, at_high, moved = middle, value, "high"
        elif value < 0:
            at_high = at_high / 2 if moved == "low" else at_high
            low, at_low, moved = middle, value, "low"
        else:
            return middle
        if abs(high - low) <= abs(high) * arb(2) ** -150:
            return middle
    raise ArithmeticError(f"the root in [{low}, {high}] is not found in {steps} steps")


def kl(p, q):
    return mean(
        p, [a.log() - b.log() if not a.is_zero() else arb(0) for a, b in zip(p, q, strict=True)]
    )


def ce(d, p):
    return -mean(d, [x.log() if not m.is_zero() else arb(0) for m, x in zip(d, p, strict=True)])


def tilt(ref, r, time):
    top = max(r, key=float)
    weights = [m * (time * (x - top)).exp() for m, x in zip(ref, r, strict=True)]
    return [w / total(weights) for w in weights]


def log_z(ref, r, time):
    top = max(r, key=float)
    return (
        total(m * (time * (x - top)).exp() for m, x in zip(ref, r, strict=True)).log() + time * top
    )


def frontier(d, r, rate):
    """(p, h, offset) from the condition that d/(offset + rate (M - r)) sums to one."""
    top = max(r, key=float)
    rooms = [rate * (top - x) for x in r]
    on_top = total(m for m, room in zip(d, rooms, strict=True) if room.is_zero())
    at_zero = total(m / room for m, room in zip(d, rooms, strict=True) if not room.is_zero())
    if on_top.is_zero() and at_zero <= 1:
        best = [room.is_zero() for room in rooms]
        share = (1 - at_zero) / sum(best)
        p = [share if b else m / room for b, m, room in zip(best, d, rooms, strict=True)]
        h = (
            1
            + total(m * x.log() for m, x in zip(d, rooms, strict=True) if not m.is_zero())
            - rate * top
        )
        return p, h, arb(0)

    def missing(log_t):
        return 1 - total(m / (log_t.exp() + room) for m, room in zip(d, rooms, strict=True))

    t = root(missing, on_top.log() if not on_top.is_zero() else arb(-2000), arb(0)).exp()
    b = [t + room for room in rooms]
    h = 1 + mean(d, [x.log() if not m.is_zero() else arb(0) for m, x in zip(d, b, strict=True)]) - t
    return [m / x for m, x in zip(d, b, strict=True)], h - rate * top, t


def line_and_policy(d, r, rate):
    p, h, _ = frontier(d, r, rate)
    return [h, *(x.log() for x in p)]


def best_dual(law, r, c):
    """max over l of E log(1 - l (r-c)/(M-c)), where its derivative is 0, by log(1 - l)."""
    top = max(r, key=float)
    a = [(v - c) / (top - c) for v in r]

    def rising(log_w):
        w = log_w.exp()
        return -total(m * x / ((1 - w) * (1 - x) + w) for m, x in zip(law, a, strict=True))

    w = root(rising, arb(-700), arb(0)).exp()
    return total(m * ((1 - w) * (1 - x) + w).log() for m, x in zip(law, a, strict=True))


def average_rate(laws, rewards, target):
    def beyond(log_rate):
        rate = log_rate.exp()
        reached = [mean(frontier(d, r, rate)[0], r) for d, r in zip(laws, rewards, strict=True)]
        return total(reached) / len(laws) - target

    return root(beyond, arb(-60), arb(60)).exp()


def average_price(laws, rewards, target):
    rate = average_rate(laws, rewards, target)
    lines = [frontier(d, r, rate)[1] for d, r in zip(laws, rewards, strict=True)]
    return rate * target + total(lines) / len(laws)


def radius(ref, r, beta):
    level = beta * log_z(ref, r, 1 / beta)
    time = root(lambda t: mean(tilt(ref, r, t), r) - level, arb(0), 1 / beta)
    return kl(tilt(ref, r, time), ref)


def pinsker(ref, r, beta):
    spread = max(r, key=float) - min(r, key=float)
    return 2 * (beta * kl(ref, tilt(ref, r, 1 / beta)) / spread) ** 2


def early_stop(d, ref, r):
    """(s0, the change of the loss there)."""
    goal = mean(d, r)
    late = 1 / (max(r, key=float) - min(r, key=float))
    while mean(tilt(ref, r, late), r) < goal:
        late *= 2
    time = root(lambda t: mean(tilt(ref, r, t), r) - goal, arb(0), late)
    return [time, -kl(tilt(ref, r, time), ref)]


def largest_rise(law, r, divergence):
    spread = max(r, key=float) - min(r, key=float)
    time = root(lambda t: kl(tilt(law, r, t), law) - divergence, arb(0), 10_000 / spread)
    return mean(tilt(law, r, time), r) - mean(law, r)


def largest_changes(law, r, divergence):
    down = largest_rise(law, [-x for x in r], divergence)
    return [-down, largest_rise(law, r, divergence)]


def joint(d, ref, r, beta, weight):
    """The maximiser of J_b - weight CE(d, .): beta log(p/ref) + beta - weight d/p = r - mu, p sums to one."""
    soft = beta * log_z(ref, r, 1 / beta)

    def policy(offset):
        p = []
        for m, q, x in zip(d, ref, r, strict=True):
            base = q * ((x - soft) / beta - offset).exp()
            if m.is_zero():
                p.append(base)
                continue
            u = (weight * m / (beta * base)).lambertw()
            p.append(weight * m / (beta * u))
        return p

    offset = root(lambda x: 1 - total(policy(x)), arb(0), weight / beta)
    return policy(offset)


def objective(p, d, ref, r, beta, weight):
    return mean(p, r) - beta * kl(p, ref) - weight * ce(d, p)


def joint_gap(p, d, ref, r, beta, weight):
    best = joint(d, ref, r, beta, weight)
    return objective(best, d, ref, r, beta, weight) - objective(p, d, ref, r, beta, weight)


def step_change(d, p, g, step):
    return ce(d, tilt(p, g, step)) - ce(d, p)


def duration(d, r, weight):
    """The best of the stationary points of U(s) = J(tilt_s) - weight KL(d||tilt_s), from every change of sign."""

    def past(s):
        p = tilt(d, r, s)
        m = mean(p, r)
        return weight * (m - mean(d, r)) - mean(p, [(x - m) ** 2 for x in r])

    spread = max(r, key=float) - min(r, key=float)
    grid = [arb(k).exp() / spread for k in range(-25, 12)]
    grid = [s / 8 * (8 + k) for s in grid for k in range(8)] + [arb(12).exp() / spread]
    cells = itertools.pairwise((s, past(s)) for s in grid)
    found = [root(past, a, b) for (a, at_a), (b, at_b) in cells if at_a < 0 < at_b]
    return max(found, key=lambda s: float(mean(tilt(d, r, s), r) - weight * kl(d, tilt(d, r, s))))


def frontier_losses(d, r, rewards):
    """CE(d, p) at the least, for each reward reached."""
    return [ce(d, d) + best_dual(d, r, c) for c in rewards]


def chi_squared(p, q):
    return mean(p, [a / b for a, b in zip(p, q, strict=True)]) - 1


def saving_bounds(d, ref, r, beta, weight):
    p = joint(d, ref, r, beta, weight)
    largest = max((a / b for a, b in zip(d, p, strict=True)), key=float)
    lower = weight * chi_squared(d, p) / (beta + weight * largest)
    return [lower, weight / beta * chi_squared(d, tilt(ref, r, 1 / beta))]


def change_bounds(law, r, divergence):
    m = mean(law, r)
    below, above = m - min(r, key=float), max(r, key=float) - m
    spread = below + above
    gaussian = (2 * divergence * mean(law, [(x - m) ** 2 for x in r])).sqrt()

    def least(side):
        pinsker = spread * (divergence / 2).sqrt()
        bretagnolle_huber = spread * (-(-divergence).expm1()).sqrt()
        return min(pinsker, bretagnolle_huber, gaussian + side * divergence / 3, side, key=float)

    return [-least(below), least(above)]


def cosine(kernel, u, v):
    def inner(x, y):
        return total(
            a * k * b for a, row in zip(x, kernel, strict=True) for k, b in zip(row, y, strict=True)
        )

    return inner(u, v) / (inner(u, u) * inner(v, v)).sqrt()


def token_divergence(p, q, tree):
    """E_p sum_t KL(p(.|y_<t)||q(.|y_<t)), every prefix summed on its own."""
    sequences = tree.sequences
    divergence = arb(0)
    for length in range(max(map(len, sequences))):
        for prefix in {y[:length] for y in sequences if len(y) > length}:
            inside = [i for i, y in enumerate(sequences) if y[:length] == prefix]
            whole = [total(law[i] for i in inside) for law in (p, q)]
            for token in {sequences[i][length] for i in inside}:
                here = [i for i in inside if sequences[i][length] == token]
                a, b = (total(law[i] for i in here) for law in (p, q))
                divergence += a * (a * whole[1] / (b * whole[0])).log()
    return divergence


def loss_increase(log_sft, log_rl, laws, rewards, beta):
    gaps = []
    for d, r in zip(laws, rewards, strict=True):
        gaps.append(log_z(d, r, 1 / beta) - mean(d, r) / beta)
    return total(
        q * gap for q, m, gap in zip(log_sft, log_rl, gaps, strict=True) if not m.is_zero()
    )


def spectral_bound(kernel, u, v, k):
    """P6 from the eigenvectors of the kernel, the k largest eigenvalues inside."""
    values, vectors = acb_mat(arb_mat(kernel)).eig(right=True)
    n = len(kernel)
    order = sorted(range(n), key=lambda i: -float(values[i].real))
    uu, vv, uv = [], [], []
    for i in order:
        e = [vectors[j, i] for j in range(n)]
        square = total(x.real * x.real for x in [a / e[0] for a in e])
        e = [(a / e[0]).real for a in e]
        along_u, along_v = (total(a * b for a, b in zip(e, x, strict=True)) for x in (u, v))
        weight = values[i].real / square
        uu.append(weight * along_u * along_u)
        vv.append(weight * along_v * along_v)
        uv.append(weight * along_u * along_v)
    outside = (total(uu[k:]) * total(vv[k:])).sqrt() if k < n else arb(0)
    return (abs(total(uv[:k])) + outside) / (total(uu) * total(vv)).sqrt()
