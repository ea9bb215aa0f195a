"""What a multitask run leaves behind besides its checkpoint: scores, curves and the language model of its texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stream_ser.train.evaluation.plots import BLUE, GREY, ORANGE, PERCENT, save
from stream_ser.train.run_folder import write_json

from . import scores
from .task import Epoch, MultitaskTrainer

#: Not the classifiers' metrics.json, which stream-ser report looks for.
METRICS, CURVES, LANGUAGE_MODEL = "multitask.json", "curves.png", "lm.arpa"


def finish(
    trainer: MultitaskTrainer, advance: Callable[[], object] | None = None, *, language_model: bool = True
) -> dict[str, Any]:
    """Measure a trained network on the validation and the test part, write the report and the language model.

    The language model has learnt the training texts alone; its weight is chosen on the validation part.

    Args:
        trainer: whose average is measured.
        advance: called once a clip of the test part.
        language_model: False decodes greedily alone, in a fraction of the time.

    Returns:
        what :data:`METRICS` holds.
    """
    validated = trainer.evaluate(trainer.validation)
    parts: dict[str, scores.Outputs] = {"validation": validated}
    if (tested := trainer.test(advance)) is not None:
        parts["test"] = tested
    results: dict[str, Any] = {"delay_frames": scores.delay_frames(validated, trainer.config.model.stride)}
    model = scores.language_model(trainer.material.train)
    fusion = None
    if language_model and model is not None and validated.spoken():
        fusion, results["language_model"] = scores.tune(model, trainer.vocabulary, validated)
        model.write(trainer.out / LANGUAGE_MODEL)
    for name, found in parts.items():
        part: dict[str, Any] = {}
        results[name] = part
        if scored := found.emotions():
            part["emotion"], part["temperature"] = scored[0].as_dict(), scored[1]
        part["greedy"] = scores.as_dict(found.rates(trainer.vocabulary))
        if fusion is not None:
            part["with_language_model"] = scores.as_dict(found.rates(trainer.vocabulary, fusion))
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
    uar = "" if epoch.uar is None else f"UAR {epoch.uar:.4f}  "
    wer = "".join(f"WER {name} {100 * rate:.1f} %  " for name, rate in epoch.wer.items())
    return (
        f"epoch {epoch.epoch:3d}  emotion loss {epoch.emotion_loss:.4f}  CTC loss {epoch.ctc_loss:.4f}  validation: "
        f"{uar}{wer}lr {epoch.lr:.1e}  {epoch.seconds:.0f} s"
    )


def rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Error rates for people: part, corpus, words; WER and CER greedily, and with the language model."""
    found = []
    for part in ("validation", "test"):
        for corpus, greedy in results.get(part, {}).get("greedy", {}).items():
            model = results[part].get("with_language_model", {}).get(corpus)
            rates = [100.0 * found_by[name] for found_by in (greedy, model) if found_by for name in ("wer", "cer")]
            found.append((part, corpus, str(greedy["words"]), *(f"{rate:.2f}" for rate in rates)))
    return found


def plot_curves(history: Sequence[Epoch], path: Path) -> None:
    """Losses, and validation UAR and word error rates, epoch by epoch."""
    epochs = [epoch.epoch for epoch in history]
    figure = Figure(figsize=(11, 4))
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [e.emotion_loss for e in history], color=ORANGE, marker=".", label="emotion, a clip")
    left.plot(epochs, [e.ctc_loss for e in history], color=BLUE, marker=".", label="CTC, a character")
    left.set(xlabel="epoch", ylabel="training loss (nats)", title="Loss")
    left.legend(frameon=False)
    known = [e for e in history if e.uar is not None]
    if known:
        right.plot([e.epoch for e in known], [e.uar or 0.0 for e in known], color=ORANGE, marker=".", label="UAR")
    for number, name in enumerate(history[-1].wer if history else ()):
        style = ("-", "--", ":", "-.")[number % 4]
        right.plot(
            epochs, [e.wer[name] for e in history], color=(BLUE, GREY)[number % 2], ls=style, label=f"WER {name}"
        )
    most = max([1.0, *(rate for e in history for rate in e.wer.values())])
    right.set(xlabel="epoch", title="Validation", ylim=(0.0, 1.05 * most))
    right.yaxis.set_major_formatter(PERCENT)
    right.legend(frameon=False)
    save(figure, path)
