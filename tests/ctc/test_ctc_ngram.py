"""N-gram models: a distribution after every context, the same from an ARPA file, broken files named."""

import gzip
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.ctc import NgramModel
from stream_ser.ctc.ngram import END, START, UNKNOWN
from stream_ser.errors import DataError

TEXTS = [text.split() for text in ("THE DOG SAT", "THE DOG RAN", "A CAT SAT ON THE DOG", "THE", "THE DOG SAT")]

ARPA = """
\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t-0.3
-0.8\t</s>
-1.0\t<unk>
-0.5\tA\t-0.2
-0.6\tB

\\2-grams:
-0.1\t<s> A
-0.4\tA B

\\end\\
"""


@given(
    st.lists(st.lists(st.sampled_from("ABCD"), max_size=6), min_size=1, max_size=8).filter(any),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_probabilities_sum_to_one_after_every_context(texts: list[list[str]], order: int) -> None:
    model = NgramModel.estimate(texts, order)
    everything = [*model.units, END, UNKNOWN]
    for length in range(order):
        for context in itertools.product([START, *model.units, UNKNOWN], repeat=length):
            total = math.fsum(math.exp(model.score(context, unit)[0]) for unit in everything)
            assert total == pytest.approx(1.0, abs=1e-9), context


def test_kneser_ney_by_hand() -> None:
    """Bigrams of A B, A C, B: <s> A twice, the others once; one discount 4 / (4 + 2) and 2 / (2 + 4)."""
    model = NgramModel.estimate([["A", "B"], ["A", "C"], ["B"]], 2)
    bigrams = {"<s> A": 2, "<s> B": 1, "A B": 1, "A C": 1, "B </s>": 2, "C </s>": 1}
    once, twice = sum(c == 1 for c in bigrams.values()), sum(c == 2 for c in bigrams.values())
    discount = once / (once + 2 * twice)
    # After how many different units: A 1 (<s>), B 2 (<s>, A), C 1, </s> 2.
    kinds = {"A": 1, "B": 2, "C": 1, "</s>": 2}
    below = 2 / (2 + 2 * 2)
    unigram = {unit: (count - below) / 6 + below * 4 / 6 / 5 for unit, count in kinds.items()}
    expected = (1 - discount) / 3 + discount * 2 / 3 * unigram["B"]
    assert math.exp(model.score((START,), "B")[0]) == pytest.approx(expected)
    assert math.exp(model.score(("C",), "A")[0]) == pytest.approx(discount * unigram["A"])
    assert math.exp(model.score((), UNKNOWN)[0]) == pytest.approx(below * 4 / 6 / 5)


def test_order_looks_back_and_helps() -> None:
    models = [NgramModel.estimate(TEXTS, order) for order in (1, 2, 3)]
    found = [math.fsum(model.log_prob(text) for text in TEXTS) for model in models]
    assert found[0] < found[1] < found[2] < 0.0
    model = NgramModel.estimate(TEXTS, 3)
    _, state = model.score(model.start(), "THE")
    assert state == (START, "THE")
    assert model.score(state, "DOG")[1] == ("THE", "DOG")
    assert model.score(state, "ZEBRA")[1] == ("THE", UNKNOWN)
    assert NgramModel.estimate(TEXTS, 1).start() == ()


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_written_and_read_again(tmp_path, name: str) -> None:
    model = NgramModel.estimate(TEXTS, 3)
    model.write(tmp_path / name)
    again = NgramModel.read(tmp_path / name)
    assert again.order == 3
    assert again.units == model.units
    for text in [*TEXTS, ["CAT", "CAT"], ["ZEBRA", "SAT"], []]:
        assert again.log_prob(text) == pytest.approx(model.log_prob(text), abs=1e-5)
    if name.endswith("gz"):
        assert gzip.decompress((tmp_path / name).read_bytes()).startswith(b"\\data\\")


def test_another_programs_file(tmp_path) -> None:
    (tmp_path / "m.arpa").write_text("made by hand\n" + ARPA)
    model = NgramModel.read(tmp_path / "m.arpa")
    assert model.order == 2

    def log10(context: tuple[str, ...], unit: str) -> float:
        return model.score(context, unit)[0] / math.log(10)

    assert log10(("<s>",), "A") == pytest.approx(-0.1)
    assert log10(("<s>",), "B") == pytest.approx(-0.3 - 0.6)
    assert log10(("A",), "A") == pytest.approx(-0.2 - 0.5)
    assert log10(("B",), "</s>") == pytest.approx(-0.8)  # no backoff is written: 0
    assert log10(("A",), "X") == pytest.approx(-0.2 - 1.0)
    assert model.log_prob(["A", "B"]) / math.log(10) == pytest.approx(-0.1 - 0.4 - 0.8)
    unknown = ARPA.replace("-1.0\t<unk>\n", "").replace("1=5", "1=4")
    (tmp_path / "u.arpa").write_text(unknown)
    assert NgramModel.read(tmp_path / "u.arpa").score((), "X")[0] == pytest.approx(-100 * math.log(10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no \\data\\, so is no ARPA file"),
        ("hello\nthere\n", r"has no \\data\\"),
        (ARPA.replace("\\end\\", ""), r"ends without \\end\\; it is cut off"),
        (ARPA.replace("-0.4\tA B", "-0.4\tA"), "line 15 is no line of an ARPA file"),
        (ARPA.replace("-0.4\tA B", "zero\tA B"), "line 15 is no line"),
        (ARPA.replace("ngram 2=2", "ngram 2=many"), "line 4 is no line"),
        (
            ARPA.replace("ngram 2=2", "ngram 2=3"),
            r"holds \{1: 5, 2: 2\} n-grams by order, but announces \{1: 5, 2: 3\}",
        ),
        ("\\data\\\n\\end\\\n", "holds {} n-grams"),
    ],
)
def test_broken_files_are_one_line(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "broken.arpa"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        NgramModel.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(ARPA.encode())[:40])
    (tmp_path / "not.gz").write_text(ARPA)
    (tmp_path / "binary.arpa").write_bytes(b"\xff\xfe mmap lm \x80")
    for name in ("absent.arpa", "cut.gz", "not.gz", "binary.arpa"):
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            NgramModel.read(tmp_path / name)


def test_texts_that_make_no_model() -> None:
    with pytest.raises(ValueError, match="order is 0"):
        NgramModel.estimate(TEXTS, 0)
    with pytest.raises(DataError, match="no text to learn"):
        NgramModel.estimate([[], []], 2)
    for unit in ("", "A B", " ", "<s>"):
        with pytest.raises(DataError, match="can be no unit of a language model"):
            NgramModel.estimate([["A", unit]], 2)
