import json
from dataclasses import replace

import pytest

from stream_ser.config import DeciderConfig, FeatureConfig, WindowConfig
from stream_ser.errors import ModelError
from stream_ser.runtime.card.base import State
from stream_ser.runtime.card.recognition import Card

CARD = Card("tiny", ("a", "b"), FeatureConfig(n_mels=2, n_fft=64, hop_length=32), (0.0, 1.0), (1.0, 2.0), licence="MIT")
MULTITASK = replace(
    CARD,
    kind="multitask",
    window=WindowConfig(frames=60, hop=12, minimum=24, shortest=12),
    states=(State("state_0", "next_state_0", (1, 2, 3)), State("state_1", "next_state_1", (4,))),
    vocabulary=("", " ", "'", "A", "B"),
    stride=4,
    delay_frames=6,
)


def changed(**changes: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **changes})


def speaking(**changes: object) -> str:
    return json.dumps({**json.loads(MULTITASK.to_json()), **changes})


def test_round_trip() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        (changed(schema=7), "newer than 6"),
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
        (changed(schema=10**400), "newer than 6"),
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


STATE = {"input": "a", "output": "b", "shape": [2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (speaking(kind="emotion"), "kind 'emotion' has a vocabulary, expected none"),
        (speaking(states=[]), "kind 'multitask' has no states"),
        (speaking(states={}), "states is {}, expected list"),
        (speaking(states=[1]), "states holds 1, expected input, output and shape"),
        (speaking(states=[{**STATE, "more": 1}]), "expected input, output and shape"),
        (speaking(states=[{**STATE, "input": 3}]), r"states names \(3, 'b'\), expected words"),
        (speaking(states=[{**STATE, "shape": [2.0]}]), r"the shape \[2.0\], expected whole numbers"),
        (speaking(states=[{**STATE, "shape": [True]}]), "expected whole numbers"),
        (speaking(states=[{**STATE, "shape": []}]), "expected 1 to 6 positive sizes"),
        (speaking(states=[{**STATE, "shape": [0]}]), "expected 1 to 6 positive sizes"),
        (speaking(states=[{**STATE, "shape": [2**23, 2]}]), "more than 8,388,608 numbers"),
        (speaking(states=[{**STATE, "shape": [10**400]}]), "expected 1 to 6 positive sizes"),
        (speaking(states=[STATE, STATE]), "two inputs or outputs have one name"),
        (speaking(states=[{**STATE, "input": "features"}]), "two inputs or outputs have one name"),
        (speaking(states=[{**STATE, "output": ""}]), "'' is no name of a state"),
        (speaking(states=[{**STATE, "input": "\x1b[2J"}]), "control characters"),
        (speaking(states=[{"input": f"i{i}", "output": f"o{i}", "shape": [1]} for i in range(65)]), "65 states"),
        (speaking(vocabulary=[]), "vocabulary of 0 with blank 0"),
        (speaking(vocabulary=["", 1]), "vocabulary holds 1, expected characters"),
        (speaking(vocabulary=["", "AB"]), "vocabulary holds 'AB', expected one printable character"),
        (speaking(vocabulary=["", "A", "A"]), "names a character twice"),
        (speaking(vocabulary=["", "A", "b"]), "mixes upper and lower case"),
        (speaking(vocabulary=["x", "A"]), "the blank, class 0, is 'x'"),
        (speaking(vocabulary=["", "A", ""]), "vocabulary holds '', expected"),
        (speaking(vocabulary=["", "\x07"]), "control characters"),
        (speaking(vocabulary=["", *map(chr, range(0x4E00, 0x4E00 + 1024))]), "vocabulary of 1025"),
        (speaking(blank=5), "with blank 5"),
        (speaking(blank=-1), "with blank -1"),
        (speaking(blank=True), "blank is True, expected int"),
        (speaking(stride=5), "stride 5 does not divide the hop of 12"),
        (speaking(stride=0), "stride 0 does not divide"),
        (speaking(stride=24), "stride 24 does not divide"),
        (speaking(delay_frames=-1), "delay_frames is -1, expected 0 to 1000"),
        (speaking(delay_frames=2**63), "expected 0 to 1000"),
        (speaking(features={**json.loads(CARD.to_json())["features"], "normalization": "level"}), "expected 'corpus'"),
    ],
)
def test_a_bad_card_of_a_streaming_network_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Card.from_json(text)


def test_a_streaming_card_makes_the_round_trip() -> None:
    assert Card.from_json(MULTITASK.to_json()) == MULTITASK
    assert json.loads(MULTITASK.to_json())["schema"] == 5
    emotion = replace(MULTITASK, kind="emotion", vocabulary=())
    assert Card.from_json(emotion.to_json()) == emotion


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_of_an_older_decider_only_what_means_the_same_is_read(schema: int) -> None:
    content = json.loads(CARD.to_json())
    older = {"onset_s": 0.8, "smoothing_s": 0.0, "enter_margin": 0.05, "hold_s": 0.5, "min_duration_s": 0.0}
    content |= {"schema": schema, "decider": {**older, "abstain_below": 0.4, "silence_dbfs": -50.0, "silence_s": 0.25}}
    if schema == 1:
        del content["features"]["normalization"]
    card = Card.from_json(json.dumps(content))
    assert card.decider == DeciderConfig(abstain_below=0.4, silence_dbfs=-50.0)
    content["schema"] = 5
    with pytest.raises(ModelError, match="smoothing_s"):
        Card.from_json(json.dumps(content))


def test_of_the_fourth_schema_only_the_cuts_are_not_read() -> None:
    content = json.loads(CARD.to_json())
    del content["decider"]["change_distance"]
    content |= {"schema": 4, "decider": {**content["decider"], "listen_s": 0.7, "cut_cost": 4.0, "memory_s": 6.0}}
    assert Card.from_json(json.dumps(content)).decider == replace(CARD.decider, listen_s=0.7)


def test_a_card_without_states_does_not_speak_of_them() -> None:
    content = json.loads(CARD.to_json())
    assert not {"states", "vocabulary", "blank", "stride", "delay_frames"} & set(content)


def test_a_missing_field_is_named() -> None:
    content = json.loads(CARD.to_json())
    del content["mean"]
    with pytest.raises(ModelError, match="mean"):
        Card.from_json(json.dumps(content))


def test_the_normalisation_is_carried() -> None:
    card = replace(CARD, features=replace(CARD.features, normalization="level"))
    assert Card.from_json(card.to_json()).features.normalization == "level"
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
