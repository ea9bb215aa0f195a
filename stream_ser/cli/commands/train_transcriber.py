"""``stream-ser train transcriber``: the network that writes down what is said."""

from __future__ import annotations

import click

from stream_ser.cli.commands.train_spoken import Asked, carry_out, configured, spoken_options


@click.command()
@spoken_options(
    out="runs/transcriber",
    data="A corpus with transcripts, such as crema-d, ravdess, an4, librispeech; may be repeated.",
    ctc_weight="Share of the encoder's CTC loss, from 0 (with --set train.guide_weight=0) to below 1.",
    changes="model.dim=144, model.max_tokens=400, train.repeat=2",
)
def transcriber(asked: Asked) -> None:
    """Train a network that hears a whole clip and writes it down: an encoder, and a decoder with attention.

    Clips without a transcript are left out. With little speech it writes the sentences that it was trained on and
    their words; LibriSpeech makes a recogniser of it. Word and character error rates are of speakers that were held
    out, decoded greedily.

    \b
    Examples:
      stream-ser train transcriber --data crema-d=/data/crema-d --data an4=/data/an4 --out runs/transcriber
      stream-ser train transcriber --data librispeech=/data/LibriSpeech --set model.max_tokens=400 --out runs/words
    """  # noqa: D301 - click wants the character itself
    from stream_ser.train.losses.ctc import ENGLISH
    from stream_ser.train.tasks.multitask.data import gather
    from stream_ser.train.tasks.transcriber import config as recipe
    from stream_ser.train.tasks.transcriber import report
    from stream_ser.train.tasks.transcriber.task import CHECKPOINT, TranscriberTrainer, with_texts

    config = configured(asked, recipe.TranscriberRun(), CHECKPOINT)
    train = config.train
    given = gather(asked.data, ENGLISH, train.held_out, train.seed, train.validation_share)
    material = with_texts(given, config.model.max_tokens)
    silent = len(given.train) - len(material.train)
    carry_out(
        asked,
        "transcriber",
        CHECKPOINT,
        lambda device: TranscriberTrainer(config, material, asked.out, device),
        report,
        note=f" with a transcript ({silent} training clips have none that is to be learnt)",
    )
