"""N-gram language models: estimated from text, read from and written to ARPA files.

The estimate is Kneser and Ney's, interpolated, with one discount an order: it never fails, however few the texts.

Reference: S. Chen, J. Goodman, An empirical study of smoothing techniques for language modeling, 1998.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from stream_ser.errors import DataError

Ngram = tuple[str, ...]
#: The last units of a text, as many as an order looks back.
State = tuple[str, ...]

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
_LN10 = math.log(10)
#: ARPA's way of writing log10 of 0, for what is never predicted.
_NEVER = -99.0
#: For words that a model without ``<unk>`` does not know; the usual value.
_UNKNOWN_LOG10 = -100.0
#: Discounts are kept within: a text whose n-grams all occur twice would leave nothing for others.
_LEAST_DISCOUNT, _MOST_DISCOUNT = 0.1, 0.9


class NgramModel:
    """Log-probabilities of units (words or characters) after others.

    Args:
        log_probs: natural logarithm of each n-gram's probability, its last unit after those before it.
        backoffs: of a context, what a unit that was never seen after it costs on top of the shorter context.
    """

    def __init__(self, log_probs: Mapping[Ngram, float], backoffs: Mapping[Ngram, float]) -> None:
        self._log_probs = dict(log_probs)
        self._backoffs = dict(backoffs)
        self.order = max(map(len, self._log_probs))
        #: All units that it knows, without the marks of the sentence's ends and of the unknown.
        self.units = frozenset(unit for unit, *rest in self._log_probs if not rest) - {START, END, UNKNOWN}

    @classmethod
    def estimate(cls, sentences: Iterable[Sequence[str]], order: int) -> NgramModel:
        """Learn a model from sentences, each a sequence of units.

        Raises:
            DataError: there is no unit in any sentence, or one that cannot be written: empty, with white space, or one
                of the three marks.
            ValueError: the order is below 1.
        """
        if order < 1:
            raise ValueError(f"order is {order}, expected 1 or more")
        given = [tuple(sentence) for sentence in sentences]
        units = {unit for sentence in given for unit in sentence}
        wrong = sorted(unit for unit in units if len(unit.split()) != 1 or unit in {START, END, UNKNOWN})
        if wrong or not units:
            raise DataError(
                f"{wrong[0]!r} can be no unit of a language model; split the text, and write spaces by another one"
                if wrong
                else "there is no text to learn a language model from"
            )
        counts = _counts([(START, *sentence, END) for sentence in given], order)
        base = 1.0 / len(units | {END, UNKNOWN})
        log_probs: dict[Ngram, float] = {(START,): _NEVER * _LN10}
        backoffs: dict[Ngram, float] = {}
        probs: dict[Ngram, float] = {}
        for size, found in enumerate(counts, start=1):
            discount = _discount(found)
            total: Counter[Ngram] = Counter()
            kinds: Counter[Ngram] = Counter()
            for ngram, count in found.items():
                total[ngram[:-1]] += count
                kinds[ngram[:-1]] += 1
            rest = {context: discount * kinds[context] / total[context] for context in total}
            listed: dict[Ngram, int] = {(UNKNOWN,): 0, **found} if size == 1 else found
            probs |= {
                ngram: max(count - discount, 0.0) / total[ngram[:-1]]
                + rest[ngram[:-1]] * (probs[ngram[1:]] if size > 1 else base)
                for ngram, count in listed.items()
            }
            backoffs |= {context: math.log(share) for context, share in rest.items() if context}
        log_probs |= {ngram: math.log(p) for ngram, p in probs.items()}
        return cls(log_probs, backoffs)

    @classmethod
    def read(cls, path: Path) -> NgramModel:
        """Read an ARPA file, ``.gz`` or plain.

        Raises:
            DataError: the file cannot be read or is no ARPA file; the message names the line.
        """
        try:
            with _open(path, "rt") as lines:
                return cls(*_parse(path, lines))
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read ({error}); give an ARPA file, plain or .gz") from None

    def write(self, path: Path) -> None:
        """Write an ARPA file; ``.gz`` compresses it."""
        sizes = Counter(map(len, self._log_probs))
        with _open(path, "wt") as out:
            out.write("\\data\\\n" + "".join(f"ngram {n}={sizes[n]}\n" for n in range(1, self.order + 1)))
            for n in range(1, self.order + 1):
                out.write(f"\n\\{n}-grams:\n")
                for ngram in sorted(ngram for ngram in self._log_probs if len(ngram) == n):
                    backoff = f"\t{self._backoffs[ngram] / _LN10:.7f}" if ngram in self._backoffs else ""
                    out.write(f"{self._log_probs[ngram] / _LN10:.7f}\t{' '.join(ngram)}{backoff}\n")
            out.write("\n\\end\\\n")

    def start(self) -> State:
        """State at the beginning of a sentence."""
        return (START,) if self.order > 1 else ()

    def score(self, state: State, unit: str) -> tuple[float, State]:
        """Natural log-probability of a unit, or of :data:`END`, after a state; and the state after it."""
        if (unit,) not in self._log_probs:
            unit = UNKNOWN
        after = (*state, unit)[-(self.order - 1) :] if self.order > 1 else ()
        cost, context = 0.0, state
        while (found := self._log_probs.get((*context, unit))) is None:
            if not context:
                return _UNKNOWN_LOG10 * _LN10, after
            cost += self._backoffs.get(context, 0.0)
            context = context[1:]
        return cost + found, after

    def log_prob(self, sentence: Sequence[str]) -> float:
        """Natural log-probability of a whole sentence, its end included."""
        total, state = 0.0, self.start()
        for unit in (*sentence, END):
            gained, state = self.score(state, unit)
            total += gained
        return total


def _counts(texts: Sequence[Ngram], order: int) -> list[Counter[Ngram]]:
    """How often each n-gram occurs; below the highest order, after how many different units it does.

    Nothing comes before a sentence's first unit, so n-grams from there on are counted as they occur.
    """
    counts = []
    for size in range(1, order + 1):
        found: Counter[Ngram] = Counter()
        before: defaultdict[Ngram, set[str]] = defaultdict(set)
        for text in texts:
            for i in range(len(text) - size + 1):
                ngram = text[i : i + size]
                found[ngram] += 1
                if i:
                    before[ngram].add(text[i - 1])
        if size < order:
            for ngram, units in before.items():
                found[ngram] = len(units)
        if size == 1:
            del found[START,]  # never predicted
        counts.append(found)
    return counts


def _discount(counts: Mapping[Ngram, int]) -> float:
    """Ney's estimate of what to take from each count, from how many occur once and twice."""
    once, twice = (sum(count == n for count in counts.values()) for n in (1, 2))
    return min(max(once / max(once + 2 * twice, 1), _LEAST_DISCOUNT), _MOST_DISCOUNT)


def _open(path: Path, mode: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return path.open(mode, encoding="utf-8")


def _parse(path: Path, lines: Iterable[str]) -> tuple[dict[Ngram, float], dict[Ngram, float]]:
    log_probs: dict[Ngram, float] = {}
    backoffs: dict[Ngram, float] = {}
    promised: dict[int, int] = {}
    size = 0
    numbered: Iterator[tuple[int, str]] = ((n, line.strip()) for n, line in enumerate(lines, 1) if line.strip())
    if not any(line == "\\data\\" for _, line in numbered):
        raise DataError(f"{path}: has no \\data\\, so is no ARPA file; a binary model has to be converted to one")
    for number, line in numbered:
        if line == "\\end\\":
            break
        try:
            if line.startswith("ngram "):
                order, _, count = line[len("ngram ") :].partition("=")
                promised[int(order)] = int(count)
            elif line.startswith("\\") and line.endswith("-grams:"):
                size = int(line[1 : -len("-grams:")])
            else:
                value, *units = line.split()
                ngram = tuple(units[:size])
                if not size or len(units) not in (size, size + 1):
                    raise ValueError
                log_probs[ngram] = float(value) * _LN10
                if len(units) > size:
                    backoffs[ngram] = float(units[size]) * _LN10
        except ValueError:
            raise DataError(f"{path}: line {number} is no line of an ARPA file; write the model anew") from None
    else:
        raise DataError(f"{path}: ends without \\end\\; it is cut off, copy it again")
    found = Counter(map(len, log_probs))
    if not log_probs or promised != dict(found):
        raise DataError(f"{path}: holds {dict(found)} n-grams by order, but announces {promised}; copy it again")
    return log_probs, backoffs
