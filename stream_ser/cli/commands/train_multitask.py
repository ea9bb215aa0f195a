"""``stream-ser train multitask``: what ``stream-ser train`` hands on for the network that also spells."""

from __future__ import annotations

import click

from stream_ser.cli.commands.train_spoken import Asked, carry_out, configured, spoken_options


@click.command()
@spoken_options(
    out="runs/multitask",
    data="A corpus with emotions, transcripts or both, such as crema-d, ravdess, an4, librispeech; may be repeated.",
    ctc_weight="Of the CTC loss beside the emotion's; 0 learns emotion alone.",
    changes="model.width=320, train.repeat=3, augment.noise_p=0.5",
)
def multitask(asked: Asked) -> None:
    """Train a streaming network that hears both what is said and how: transcript by CTC, and emotion.

    A clip without an emotion or without a transcript adds nothing to the loss of what it lacks. With little speech it
    spells the sentences that it was trained on and their words; LibriSpeech makes a recogniser of it.

    Word and character error rates are of speakers that were held out, decoded greedily and by beam search with a
    trigram model of the training texts, which is written as lm.arpa.

    \b
    Examples:
      stream-ser train multitask --data crema-d=/data/crema-d --data an4=/data/an4 --out runs/multitask
      stream-ser train multitask --data librispeech=/data/LibriSpeech --out runs/words
    """  # noqa: D301 - click wants the character itself
    from stream_ser.train.losses.ctc import ENGLISH
    from stream_ser.train.tasks.multitask import config as recipe
    from stream_ser.train.tasks.multitask import report
    from stream_ser.train.tasks.multitask.data import gather
    from stream_ser.train.tasks.multitask.task import CHECKPOINT, MultitaskTrainer

    config = configured(asked, recipe.MultitaskRun(), CHECKPOINT)
    train = config.train
    material = gather(asked.data, ENGLISH, train.held_out, train.seed, train.validation_share)
    carry_out(
        asked, "multitask", CHECKPOINT, lambda device: MultitaskTrainer(config, material, asked.out, device), report
    )
