"""What a run of the transcriber leaves behind besides its checkpoint: error rates and curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stream_ser.train.evaluation.plots import BLUE, GREY, ORANGE, PERCENT, save
from stream_ser.train.run_folder import write_json
from stream_ser.train.tasks.multitask.report import CURVES
from stream_ser.train.tasks.multitask.scores import as_dict

from .task import Epoch, TranscriberTrainer

#: Not the classifiers' metrics.json, which stream-ser report looks for.
METRICS = "transcriber.json"


def finish(trainer: TranscriberTrainer, advance: Callable[[], object] | None = None) -> dict[str, Any]:
    """Measure a trained network on the validation and the test part, and write the report.

    Args:
        trainer: whose average is measured.
        advance: called once a clip of the test part.

    Returns:
        what :data:`METRICS` holds.
    """
    parts = {"validation": trainer.evaluate(trainer.validation)}
    if (tested := trainer.test(advance)) is not None:
        parts["test"] = tested
    results = {name: {"greedy": as_dict(found.rates())} for name, found in parts.items()}
    trainer.finish(results)
    content = {
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "data": trainer.describe(),
        "results": results,
        "epochs": [vars(epoch) for epoch in trainer.history],
    }
    write_json(trainer.out / METRICS, content)
    plot_curves(trainer.history, trainer.out / CURVES)
    return content


def describe_epoch(epoch: Epoch) -> str:
    """One line for people."""
    wer = "".join(f"WER {name} {100 * rate:.1f} %  " for name, rate in epoch.wer.items())
    return (
        f"epoch {epoch.epoch:3d}  attention loss {epoch.attention_loss:.4f}  CTC loss {epoch.ctc_loss:.4f}  "
        f"guide loss {epoch.guide_loss:.4f}  "
        f"validation: {wer}lr {epoch.lr:.1e}  {epoch.seconds:.0f} s"
    )


def plot_curves(history: Sequence[Epoch], path: Path) -> None:
    """Losses and validation word error rates, epoch by epoch."""
    epochs = [epoch.epoch for epoch in history]
    figure = Figure(figsize=(11, 4))
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [e.attention_loss for e in history], color=ORANGE, marker=".", label="attention")
    left.plot(epochs, [e.ctc_loss for e in history], color=BLUE, marker=".", label="CTC")
    left.plot(epochs, [e.guide_loss for e in history], color=GREY, marker=".", label="guide")
    left.set(xlabel="epoch", ylabel="training loss a character (nats)", title="Loss")
    left.legend(frameon=False)
    for number, name in enumerate(history[-1].wer if history else ()):
        style, color = ("-", "--", ":", "-.")[number % 4], (BLUE, GREY, ORANGE)[number % 3]
        right.plot(epochs, [e.wer[name] for e in history], color=color, ls=style, label=name)
    # Guesses may have more words than there are; the first epochs say more still.
    top = max([1.0, *(history[-1].wer.values() if history else ())])
    right.set(xlabel="epoch", title="Word error rate, validation", ylim=(0.0, 1.05 * top))
    right.yaxis.set_major_formatter(PERCENT)
    right.legend(frameon=False)
    save(figure, path)
