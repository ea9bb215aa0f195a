"""Parts of a card that only a streaming network has: its states, and what its CTC output spells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stream_ser.errors import ModelError
from stream_ser.text import printable

MAX_STATES, MAX_AXES, MAX_NAME_LENGTH = 64, 6, 64
#: Float32 numbers of all states together: 32 MiB.
MAX_STATE_SIZE = 8 * 1024**2
#: Classes of a CTC output: characters of the largest alphabets, not of whole words.
MAX_VOCABULARY = 1024
#: Frames that a CTC output may lag: more than any live transcript would bear.
MAX_DELAY_FRAMES = 1_000


@dataclass(frozen=True)
class State:
    """A tensor that a network takes with each hop and gives back for the next; zeros at the start.

    Attributes:
        input: its name among the graph's inputs.
        output: its name among the outputs.
        shape: of both; float32.
    """

    input: str
    output: str
    shape: tuple[int, ...]


#: Numbers of a session state, and seconds of an utterance that counts once.
MAX_SESSION_SIZE, FULL_RANGE_S = 65_536, (0.1, 60.0)


@dataclass(frozen=True)
class Memory:
    """What a network remembers of the voice from utterance to utterance, in sums that the runtime adds up.

    With each hop the graph gives the numbers that the utterance so far would add. When it has ended, they are added to
    the session, weighted by its length. The first of them is 1: the number of utterances.

    Attributes:
        state: input of the state that holds the session, ``(1, size)``; the graph passes it through.
        output: what the utterance adds, of the same shape.
        full_s: speech that counts as one utterance, seconds.
        fingerprint: of the network and its memory: a session of another one means nothing.
    """

    state: str
    output: str
    full_s: float
    fingerprint: str


def memory_of(content: Any) -> Memory | None:
    """A memory from JSON: ``{"state", "output", "full_s", "fingerprint"}``, or None.

    Raises:
        TypeError: another kind of value.
    """
    if content is None:
        return None
    if not isinstance(content, dict) or sorted(content) != ["fingerprint", "full_s", "output", "state"]:
        raise TypeError(f"memory is {_shown(content)}, expected state, output, full_s and fingerprint")
    full_s = content["full_s"]
    if isinstance(full_s, bool) or not isinstance(full_s, int | float):
        raise TypeError(f"memory gives full_s {_shown(full_s)}, expected a number")
    words = [content[name] for name in ("state", "output", "fingerprint")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"memory names {_shown(words)}, expected words")
    return Memory(words[0], words[1], full_s, words[2])


def check_memory(memory: Memory, states: tuple[State, ...], taken: set[str]) -> None:
    """Refuse a memory that no graph can have.

    Args:
        memory: of the card.
        states: of the card.
        taken: names of the graph's other inputs and outputs.

    Raises:
        ModelError: no such state, another shape, a name that is not valid or not different, a length out of range.
    """
    shape = next((state.shape for state in states if state.input == memory.state), None)
    if shape is None or len(shape) != 2 or shape[0] != 1 or not 2 <= shape[1] <= MAX_SESSION_SIZE:
        raise ModelError(
            f"card: memory is state {_shown(memory.state)} of shape {_shown(shape)}, expected one of the states, of "
            f"shape (1, 2 to {MAX_SESSION_SIZE:,})"
        )
    names = taken | {name for state in states for name in (state.input, state.output)}
    output = memory.output
    if output in names or not output.strip() or len(output) > MAX_NAME_LENGTH or not output.isprintable():
        raise ModelError(f"card: {_shown(output)} is no name of a memory's output; export the model again")
    if not FULL_RANGE_S[0] <= memory.full_s <= FULL_RANGE_S[1]:
        raise ModelError(f"card: memory.full_s is {_shown(memory.full_s)}, expected {FULL_RANGE_S[0]:g} to 60 seconds")
    if (
        not memory.fingerprint.isalnum()
        or not memory.fingerprint.isascii()
        or len(memory.fingerprint) > MAX_NAME_LENGTH
    ):
        raise ModelError(f"card: memory.fingerprint is {_shown(memory.fingerprint)}, expected letters and digits")


def states_of(content: Any) -> tuple[State, ...]:
    """States from JSON: a list of ``{"input", "output", "shape"}``.

    Raises:
        TypeError: another kind of value.
    """
    found = []
    for entry in content:
        if not isinstance(entry, dict) or sorted(entry) != ["input", "output", "shape"]:
            raise TypeError(f"states holds {_shown(entry)}, expected input, output and shape")
        names, shape = (entry["input"], entry["output"]), entry["shape"]
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"states names {_shown(names)}, expected words")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise TypeError(f"states gives the shape {_shown(shape)}, expected whole numbers")
        found.append(State(*names, tuple(shape)))
    return tuple(found)


def characters_of(content: Any) -> tuple[str, ...]:
    """A vocabulary from JSON: a list of texts.

    Raises:
        TypeError: another kind of value.
    """
    if strange := [entry for entry in content if not isinstance(entry, str)]:
        raise TypeError(f"vocabulary holds {_shown(strange[0])}, expected characters")
    return tuple(content)


def check_states(states: tuple[State, ...], taken: set[str]) -> None:
    """Refuse states that no graph can have, or that would fill the memory.

    Args:
        states: of the card.
        taken: names of the graph's other inputs and outputs.

    Raises:
        ModelError: names that are not valid or not different, shapes out of range.
    """
    if len(states) > MAX_STATES:
        raise ModelError(f"card: has {len(states)} states, expected at most {MAX_STATES}")
    names = [name for state in states for name in (state.input, state.output)]
    for name in names:
        if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise ModelError(f"card: {_shown(name)} is no name of a state, up to {MAX_NAME_LENGTH} characters")
    if len({*names, *taken}) < len(names) + len(taken):
        raise ModelError(f"card: two inputs or outputs have one name among {_shown(sorted(names))}")
    for state in states:
        if not 1 <= len(state.shape) <= MAX_AXES or not all(1 <= size <= MAX_STATE_SIZE for size in state.shape):
            raise ModelError(
                f"card: state {state.input} has shape {_shown(state.shape)}, expected 1 to {MAX_AXES} positive sizes"
            )
    if sum(math.prod(state.shape) for state in states) > MAX_STATE_SIZE:
        raise ModelError(f"card: the states hold more than {MAX_STATE_SIZE:,} numbers; export a smaller network")


def check_vocabulary(vocabulary: tuple[str, ...], blank: int) -> None:
    """Refuse what cannot be spelled with.

    Raises:
        ModelError: too few or too many classes, no blank among them, an entry that is not one printable character, or
            one that is there twice.
    """
    if not 2 <= len(vocabulary) <= MAX_VOCABULARY or not 0 <= blank < len(vocabulary):
        raise ModelError(
            f"card: vocabulary of {len(vocabulary)} with blank {_shown(blank)}, expected 2 to {MAX_VOCABULARY} classes "
            "and the blank one of them"
        )
    for index, entry in enumerate(vocabulary):
        if index == blank and entry:
            raise ModelError(f"card: the blank, class {blank}, is {_shown(entry)} in vocabulary, expected ''")
        if index != blank and (len(entry) != 1 or not entry.isprintable()):
            raise ModelError(f"card: vocabulary holds {_shown(entry)}, expected one printable character a class")
    if len(set(vocabulary)) < len(vocabulary):
        raise ModelError("card: vocabulary names a character twice; export the model again")
    text = "".join(vocabulary)
    if text not in (text.upper(), text.lower()):
        raise ModelError("card: vocabulary mixes upper and lower case, expected one of them; export the model again")


def _shown(value: object) -> str:
    return printable(repr(value), 80)
