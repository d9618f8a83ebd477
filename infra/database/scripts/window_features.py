"""The vector of a window in NumPy: the same 256 numbers as btc_ingest.embed() computes, to one part in a million.

An independent check of the library's features, and a start for features of your own. docs/design/windows.md says what
each number means.
"""
import numpy as np

BUCKET_US = 300_000_000
CELLS = 256
DIMENSIONS = 256
FEATURE_VERSION = "btc_ingest 1"
TINY = 1e-9
FINE, OFFSET = 16.0, 0.3719
BLOCKS = {"path": (64, 0.09), "quantiles": (60, 0.25), "flow": (48, 0.2), "shapes": (32, 2.0), "trading": (24, 0.5),
          "dynamics": (22, 1.0), "counts": (6, 1.5)}


def z_normalise(values):
    spread = values.std()
    return np.zeros_like(values) if spread < TINY else (values - values.mean()) / spread


def ratio(part, whole):
    return part / whole if abs(whole) >= 1e-30 else 0.0


def squash(value, centre, width):
    return np.tanh((value - centre) / width)


def autocorrelation(values, lag):
    return ratio(np.dot(values[:-lag], values[lag:]), np.dot(values, values))


def correlation(one, other):
    one, other = one - one.mean(), other - other.mean()
    return ratio(np.dot(one, other), np.sqrt(np.dot(one, one) * np.dot(other, other)))


class Slice:
    """The trades of one slice, on a grid of 256 cells and one by one."""

    def __init__(self, offsets, prices, quantities, taker_buys):
        """offsets: microseconds from the start of the bucket, ascending; taker_buys: 1, 0, or NaN if not known."""
        keep = np.isfinite(prices) & (prices > 0)
        self.offsets = np.clip(offsets[keep], 0, BUCKET_US - 1)
        size = quantities[keep]
        self.size = np.where(np.isfinite(size) & (size > 0), size, 0.0)
        self.n = len(self.offsets)
        self.log = np.log(prices[keep])
        self.log = self.log - self.log[0] if self.n else self.log
        self.change = np.diff(self.log, prepend=0.0)
        told = taker_buys[keep]
        self.known = int(np.isfinite(told).sum())
        sign = np.where(np.isfinite(told), np.where(told > 0.5, 1.0, -1.0), np.sign(self.change))
        # A trade without a sign has that of the last one before it that has any.
        last = np.maximum.accumulate(np.where(sign != 0, np.arange(self.n), -1)) if self.n else np.array([], int)
        self.sign = np.where(last >= 0, sign[np.maximum(last, 0)], 0.0) if self.n else sign
        cell = self.offsets // (BUCKET_US // CELLS)
        self.counts = np.bincount(cell, minlength=CELLS).astype(float)
        self.volumes = np.bincount(cell, weights=self.size, minlength=CELLS)
        self.flows = np.bincount(cell, weights=self.size * self.sign, minlength=CELLS)
        upto = np.searchsorted(cell, np.arange(CELLS), side="right")
        self.path = np.concatenate([[0.0], self.log])[upto]
        self.returns = np.diff(self.path, prepend=0.0)
        self.volume = self.size.sum()
        self.flow = (self.size * self.sign).sum()
        self.range = self.log.max() - self.log.min() if self.n else 0.0

    def points(self):
        return self.path[3::4]


def path(s):
    return z_normalise(s.points())


def quantiles(s):
    scale = np.sqrt(np.mean(s.returns ** 2))
    returns = s.returns / scale if scale >= TINY else np.zeros(CELLS)
    numbers = [np.arcsinh(np.quantile(part, (np.arange(count) + 0.5) / count))
               for parts, count in ((1, 20), (2, 8), (4, 4)) for part in returns.reshape(parts, -1)]
    return np.concatenate(numbers + [np.median(z_normalise(s.path).reshape(8, -1), axis=1)])


def flow(s):
    flows, volumes, counts = (cells.reshape(16, -1).sum(axis=1) for cells in (s.flows, s.volumes, s.counts))
    none = np.zeros(16)
    return np.concatenate([
        np.sign(flows) * np.sqrt(np.abs(flows) / s.volume * 16) if s.volume > 0 else none,
        np.sqrt(volumes / s.volume * 16) - 1 if s.volume > 0 else none,
        np.sqrt(counts / s.n * 16) - 1 if s.n else none])


def spread(values, total, parts):
    """Parts of the values around centres that are an octave apart, by bins of a sixteenth of an octave."""
    result = np.zeros(parts)
    if len(values):
        octaves = np.log2(values)
        bins = np.clip(np.floor(octaves * FINE + OFFSET) + 64 * FINE, 0, 2 * 64 * FINE - 1)
        middles = (bins + 0.5 - OFFSET) / FINE - 64
        place = np.clip(middles - octaves.mean() + (parts - 1) / 2, 0, parts - 1)
        below = np.floor(place).astype(int)
        above = place - below
        np.add.at(result, below, (1 - above) / total)
        np.add.at(result, np.minimum(below + 1, parts - 1), above / total)
    return result


def shapes(s):
    sizes, gaps = s.size[s.size > 0], np.diff(s.offsets).astype(float)
    parts = spread(sizes, len(sizes), 16)
    same = np.mean(gaps == 0) if len(gaps) else 0.0
    numbers = np.sqrt(np.maximum(np.concatenate([parts, [same], spread(gaps[gaps > 0], len(gaps), 15)]), 0)) - 0.25
    numbers[:16] *= len(sizes) > 0
    numbers[16:] *= len(gaps) > 0
    return numbers


def trading(s):
    if not s.n:
        return np.zeros(24)
    r = s.returns
    realised = [float(np.sum(np.diff(s.path[k - 1::k], prepend=0.0) ** 2)) for k in (1, 4, 16, 64)]
    bipower = np.pi / 2 * np.sum(np.abs(r[1:]) * np.abs(r[:-1]))
    flat = realised[0] < TINY ** 2
    numbers = [squash(np.log(np.sqrt(rv) + 1e-8), -7, 1.5) for rv in realised]
    numbers.append(0.0 if flat else squash(bipower / realised[0] - 1, 0, 0.5))
    numbers += [squash(np.log((rv + 1e-16) / (realised[0] + 1e-16)), 0, 1) for rv in realised[1:]]
    numbers += [np.dot(s.sign[lag:], s.sign[:-lag]) / (s.n - lag) if s.n > lag else 0.0 for lag in (1, 2, 5, 10)]
    squares, products = np.sum(s.change ** 2), np.sum(s.change[1:] * s.change[:-1])
    numbers.append(0.0 if squares < TINY ** 2 else products / squares)
    numbers.append(squash(np.log(2 * np.sqrt(max(-products / s.n, 0)) + 1e-8), -10, 2))
    numbers += liquidity(s)
    variance = np.mean(r ** 2)
    steady = np.sqrt(variance) < TINY
    skewness = 0.0 if steady else np.mean(r ** 3) / variance ** 1.5
    kurtosis = 3.0 if steady else np.mean(r ** 4) / variance ** 2
    moving = s.range >= TINY
    middle = (s.log.max() + s.log.min()) / 2
    weighted = np.sum(s.size * s.log) / s.volume if s.volume > 0 else middle
    down = np.max(np.maximum.accumulate(s.log) - s.log)
    up = np.max(s.log - np.minimum.accumulate(s.log))
    return np.array(numbers + [
        ratio(s.flow, s.volume), s.sign.sum() / s.n, 2 * (weighted - middle) / s.range if moving else 0.0,
        squash(skewness, 0, 2), squash(np.log(kurtosis + 1), np.log(4), 1),
        down / s.range if moving else 0.0, up / s.range if moving else 0.0])


def liquidity(s):
    moves, flows, volumes = (cells.reshape(16, -1).sum(axis=1) for cells in (s.returns, s.flows, s.volumes))
    ways, volume = np.abs(moves)[volumes > 0], volumes[volumes > 0]
    illiquid = 0.0
    if len(ways) and ways.mean() >= TINY:
        illiquid = squash(np.log(np.mean(ways / volume) * volume.mean() / ways.mean() + 1e-3), 0, 1)
    if s.range < TINY:
        return [illiquid, 0.0, 0.0]
    return [illiquid, correlation(s.returns, s.flows), correlation(moves, flows)]


def longest(flags):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return int(np.max(edges[1::2] - edges[::2])) if len(edges) else 0


def dynamics(s):
    if s.path.std() < TINY:
        return np.zeros(22)
    z, u = z_normalise(s.path), z_normalise(s.returns)
    sizes = np.abs(u) - np.abs(u).mean()
    numbers = [autocorrelation(u, lag) for lag in (1, 2, 3, 5, 8, 13)]
    numbers += [autocorrelation(sizes, lag) for lag in (1, 2, 4, 8, 16)]
    numbers.append(squash(np.mean(np.diff(u) ** 3), 0, 5))
    moves = s.returns[s.returns != 0] > 0
    numbers.append(np.mean(moves[1:] != moves[:-1]) if len(moves) > 1 else 0.0)
    numbers += [np.sqrt(longest(z > 0) / CELLS), np.sqrt(longest(s.returns >= 0) / CELLS)]
    p = s.path
    orders = (p[:-2] > p[1:-1]) * 1 + (p[1:-1] > p[2:]) * 2 + (p[:-2] > p[2:]) * 4
    parts = np.bincount(orders) / len(orders)
    parts = parts[parts > 0]
    numbers.append(-np.sum(parts * np.log(parts)) / np.log(6))
    power = np.abs(np.fft.rfft(z_normalise(s.points())))[1:] ** 2
    total = power.sum()
    numbers.append(power[:3].sum() / total if total > TINY else 0.0)
    numbers.append(np.sqrt(np.dot(power, np.arange(1, 33)) / total / 32) if total > TINY else 0.0)
    numbers += [np.argmax(p) / CELLS, np.argmin(p) / CELLS]
    width = (z.max() - z.min()) / 5
    bins = np.bincount(np.minimum(((z - z.min()) / width).astype(int), 4), minlength=5)
    numbers.append((z.min() + width * (np.argmax(bins) + 0.5)) / 3)
    numbers.append(np.sqrt(np.sum((z[1:] > 0) != (z[:-1] > 0)) / CELLS))
    return np.array(numbers)


def counts(s):
    first, last = (s.offsets[0] / BUCKET_US, (BUCKET_US - s.offsets[-1]) / BUCKET_US) if s.n else (1.0, 1.0)
    return np.array([squash(np.log(1 + s.n), 7, 3), np.mean(s.counts > 0), first, last,
                     (s.n - s.known) / s.n if s.n else 0.0, 0.1])


FILL = {"path": path, "quantiles": quantiles, "flow": flow, "shapes": shapes, "trading": trading, "dynamics": dynamics,
        "counts": counts}


def features(offsets, prices, quantities, taker_buys):
    """Returns the vector of one slice as float32; its trades come in the order of time and trade id."""
    window = Slice(np.asarray(offsets, np.int64), np.asarray(prices, float), np.asarray(quantities, float),
                   np.asarray(taker_buys, float))
    with np.errstate(all="ignore"):
        numbers = np.concatenate([FILL[name](window) * weight for name, (_, weight) in BLOCKS.items()])
    numbers = np.where(np.isfinite(numbers), numbers, 0.0)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)
