import json
from dataclasses import replace

import pytest

from stream_ser.card import Card
from stream_ser.config import FeatureConfig
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
