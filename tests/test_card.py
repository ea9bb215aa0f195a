import json
from dataclasses import replace

import pytest

from stream_ser.card import Card
from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import ModelError

CARD = Card("tiny", ("a", "b"), FeatureConfig(n_mels=2, n_fft=64, hop_length=32), (0.0, 1.0), (1.0, 2.0), licence="MIT")


def changed(**changes: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **changes})


def test_round_trip() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        (changed(schema=3), "newer than 2"),
        (changed(schema="x"), "expected a whole number"),
        (changed(kind="separator"), "kind 'separator'"),
        (changed(labels=["a"]), "two or more"),
        (changed(labels=["a", "a"]), "two or more"),
        (changed(mean=[0.0]), "mean must hold 2"),
        (changed(mean=[0.0, float("nan")]), "mean must hold 2 finite"),
        (changed(std=[1.0, 0.0]), "std must be positive"),
        (changed(temperature=0.0), "temperature"),
        (changed(features={"kind": "waveform"}), "feature kind 'waveform'"),
        (changed(features={"kind": "log-mel", "n_mels": "many"}), "export the model again"),
        (changed(window={"frames": 0}), "shortest <= minimum <= frames"),
        (changed(surprise=1), "surprise"),
        (changed(labels="ab"), "labels is 'ab', expected list"),
        (changed(training=[]), r"training is \[\], expected dict"),
        (changed(results=None), "results is None"),
        (changed(name=3), "name is 3, expected str"),
        (changed(parameters="many"), "parameters is 'many'"),
        (changed(labels=None), "export the model again"),
        (changed(features={"kind": "log-mel", "n_mels": 2.0}), "n_mels is 2.0, expected a whole number"),
        (changed(window={"frames": True}), "frames is True"),
        (changed(decider={"hold_s": "long"}), "hold_s is 'long', expected a number"),
        (changed(decider={"hold_s": float("nan")}), "hold_s is nan"),
        (changed(window=[1]), "export the model again"),
        (changed(labels=["a", 1]), "labels holds 1, expected words"),
        (changed(labels=["a", ""]), "label '' is not 1 to 64 printable"),
        (changed(labels=["a", "b\x1b[2J"]), r"label 'b\\x1b\[2J' is not"),
        (changed(labels=["a", "b" * 65]), "is not 1 to 64 printable"),
        (changed(labels=[f"l{i}" for i in range(300)]), "300 labels, expected at most 256"),
        (changed(name="a\nb"), "printable characters"),
        (changed(licence="\x1b]0;owned\x07"), "licence holds control characters"),
        (changed(training={"corpora": {"x\x9b1m": 3}}), "training holds control characters"),
        (changed(results={"a": [{"protocol": "\x08"}]}), "results holds control characters"),
        (changed(temperature=1e-320), "temperature 9.99989e-321 must be positive"),
        (changed(temperature="1"), "temperature holds '1', expected numbers"),
        (changed(temperature=10**400), "temperature nan"),
        (changed(mean=["0", 1.0]), "mean holds '0', expected numbers"),
        (changed(mean=[0.0, 1e38]), "mean must lie within"),
        (changed(std=[1.0, 1e-30]), "std must be positive, from"),
        (changed(parameters=True), "parameters is True"),
        (changed(schema=True), "expected a whole number"),
        (changed(schema=10**400), "newer than 2"),
        (changed(decider={"hold_s": 10**400}), "hold_s is 1000.*expected a number"),
        (changed(decider={"hold_s": 1e9}), "expected 0 to 3600"),
        (changed(features={"kind": "log-mel", "n_mels": 2, "n_fft": 2**40}), "n_fft is 1099511627776, expected 16 to"),
        (changed(features={"kind": "log-mel", "n_mels": 2**31}), "n_mels is 2147483648, expected 1 to 256"),
        (changed(features={"kind": "log-mel", "n_mels": 2, "log_floor": 1e-300}), "log_floor is 1e-300"),
        (changed(window={"frames": 2**40, "minimum": 1, "shortest": 1}), "frames is 1099511627776, expected"),
        (changed(**{"\x1b[2J": 1}), r"keyword argument '\\x1b\[2J'"),
        ("[" * 100_000, "nested too deeply"),
        (changed(training={"a": "x" * 2**20}), "characters, expected at most 1,048,576"),
    ],
)
def test_a_bad_card_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Card.from_json(text)


def test_a_missing_field_is_named() -> None:
    content = json.loads(CARD.to_json())
    del content["mean"]
    with pytest.raises(ModelError, match="mean"):
        Card.from_json(json.dumps(content))


def test_the_normalisation_is_carried() -> None:
    card = replace(CARD, features=replace(CARD.features, normalization="level"))
    assert Card.from_json(card.to_json()).features.normalization == "level"
    assert json.loads(card.to_json())["schema"] == 2
    features = json.loads(card.to_json())["features"]
    for wrong, message in (("clip", "'clip' is not one of corpus, level, sample"), (1, "expected a word")):
        with pytest.raises(ModelError, match=message):
            Card.from_json(changed(features={**features, "normalization": wrong}))


def test_a_card_of_the_first_schema_normalises_by_the_corpus() -> None:
    content = json.loads(CARD.to_json())
    content["schema"] = 1
    del content["features"]["normalization"]
    assert Card.from_json(json.dumps(content)).features.normalization == "corpus"


def test_a_card_cannot_ask_for_a_window_that_fills_the_memory() -> None:
    features = FeatureConfig(n_mels=256, n_fft=16_384)
    wide = {"mean": (0.0,) * 256, "std": (1.0,) * 256}
    Card("wide", ("a", "b"), features, **wide, window=WindowConfig(frames=32_000))
    with pytest.raises(ModelError, match="window of 40000 frames of 256 bands is more than 32 MiB"):
        Card("wide", ("a", "b"), features, **wide, window=WindowConfig(frames=40_000))


def test_what_a_refusal_says_is_short_and_printable() -> None:
    for text in (changed(kind="x" * 10_000), changed(name=["\x1b" * 10_000]), changed(**{"\x07" * 10_000: 1})):
        with pytest.raises(ModelError) as caught:
            Card.from_json(text)
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()
