"""The training loop: seeded, resumable at every epoch, one run folder, one process or many."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel

from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.version import __version__

from . import run_folder
from .augment import mixup, spec_augment
from .checkpoint import BEST, CHECKPOINT, current_commit, read_checkpoint, write_atomically
from .config import RunConfig
from .data.corpora import Corpus
from .data.normalization import Normalized
from .data.splits import Split
from .data.teacher_scores import Taught, hold_out_speakers, ordinary_targets
from .data.windows import TorchLogMel, TrainingWindows, band_statistics, read_waves
from .distributed import World
from .evaluation.complexity import complexity
from .losses.distillation import Teachers
from .losses.emotion import Objective
from .losses.moments import EarlyToo
from .losses.sentences import Embedder, WithSentences, sentence_targets, sentences_of
from .losses.targets import balance, training_targets
from .optim import HEAD, Schedule, autocast, check_precision, ema_with_warmup, make_optimizer, make_scaler
from .run_folder import Epoch as Epoch
from .run_folder import Part, Predictions
from .transfer.finetune import TakenOver, take_over

#: What only a resumed run needs of a checkpoint.
TRAINING_STATE = ("model", "optimizer", "schedule", "scaler", "auxiliary", "features_head")

OnStep = Callable[[int, int, float], object]


class Trainer:
    """Trains one network on one split.

    Args:
        config: everything that decides the result.
        split: training and validation clips; test clips, where there are, are looked at once, after the last epoch.
        corpora: where they come from, for the record.
        out: run folder; created.
        device: where to train.
        world: the processes that train together; alone by default.
        start: checkpoint whose averaged weights and normalisation to start from.
        teachers: checkpoints or run folders to learn from.
        taught: what a teacher said of the clips, from a file.
        ordinary: corpora of plain speech, of which some speakers are trained on with a weak target.

    Raises:
        TrainError: settings, corpora, device and processes that do not go together.
    """

    def __init__(
        self,
        config: RunConfig,
        split: Split,
        corpora: Sequence[Corpus],
        out: Path,
        device: torch.device,
        *,
        world: World | None = None,
        start: dict[str, Any] | None = None,
        teachers: Sequence[Path] = (),
        taught: Taught | None = None,
        ordinary: Sequence[Corpus] = (),
    ) -> None:
        self.config = config
        self.split = split
        self.corpora = corpora
        self.out = out
        self.device = device
        self.world = world or World()
        self.start = start
        self.labels = corpora[0].labels
        if any(corpus.labels != self.labels for corpus in corpora):
            raise TrainError("the corpora have different labels and cannot be joined")
        if config.model.num_classes != len(self.labels):
            raise TrainError(f"the network has {config.model.num_classes} outputs for {len(self.labels)} labels")
        self.world.check_batch(config.train.batch_size, config.train.accumulate)
        check_precision(config.train.precision, device)
        if teachers and ordinary:
            raise TrainError("networks that teach call plain speech an emotion; give their posteriors with --taught")
        self.teachers = Teachers(teachers, self.labels, config, device) if teachers else None
        self.taught = taught
        self.ordinary_corpora = ordinary
        self.ordinary = hold_out_speakers([clip for corpus in ordinary for clip in corpus.clips])[0]
        self.taken_over: TakenOver | None = None
        self.history: list[Epoch] = []
        self.validated: Predictions | None = None
        self.tested: Predictions | None = None
        self.auxiliary: nn.Linear | None = None
        self.features_head: nn.Linear | None = None
        self.sentences: tuple[str, ...] = ()
        self._elapsed_s = 0.0
        self._commit = current_commit()

    def prepare(self, advance: Callable[[], object] | None = None) -> None:
        """Decode the clips, take the statistics of the training part and build the network.

        Args:
            advance: called once a clip, for a progress display.
        """
        config = self.config
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        waves = read_waves((*self.split.train, *self.ordinary), config.features, advance)
        self.validation = run_folder.make_part(self.split.validation, self.labels, config, advance)
        self.test = run_folder.make_part(self.split.test, self.labels, config, advance) if self.split.test else None
        if self.start is None:
            self.mean, self.std = band_statistics(waves[: len(self.split.train)], config.features)
        else:
            self.mean, self.std = (np.asarray(self.start[name], np.float32) for name in ("mean", "std"))
        weights, drawn = balance(self.split.train, self.labels, config.train)
        class_weights = None if weights is None else torch.from_numpy(weights).to(self.device)
        self.sentences = sentences_of(self.split.train) if config.train.sentences else ()
        targets, width = self._targets()
        self.loss = Objective(config.train, len(self.labels), class_weights, width)
        if drawn is not None and self.ordinary:
            drawn = np.concatenate((drawn, np.full(len(self.ordinary), drawn.mean())))
        self.data = TrainingWindows(
            waves,
            targets,
            config.features,
            config.window,
            config.augment,
            config.train.batch_size,
            weights=drawn,
            seed=config.train.seed,
            groups=self._groups(),
            own=len(self.labels) + bool(self.ordinary),
        )
        torch.manual_seed(config.train.seed)
        network = registry.build(config.network, config.model)
        network.set_normalization(torch.from_numpy(self.mean), torch.from_numpy(self.std), config.features.log_floor)
        if self.start is not None:
            self.taken_over = take_over(network, self.start, self.labels)
        network = self.world.synchronize_batch_norm(network, self.device)
        self.cost = complexity(network, config.model.n_mels, config.model.n_frames)
        self.model = Normalized(network, self.mean, self.std, config.features).to(self.device)
        # Convolutions run faster on CPU with the channels last.
        self.model.to(memory_format=torch.channels_last)
        self.features = TorchLogMel(config.features).to(self.device)
        self.optimizer = make_optimizer(self.model.network, config.train)
        asked: Embedder = EarlyToo(network, config.features) if config.train.early else network
        learner: nn.Module = asked
        if self.sentences or width or self.ordinary:
            learner = WithSentences(asked, len(self.sentences), width).to(self.device)
            for head in learner.own_heads():
                self.optimizer.add_param_group(
                    {"params": list(head.parameters()), "weight_decay": 0.0, "lr_scale": 1.0}
                )
            self.auxiliary = learner.sentences
            self.features_head = learner.features
        self.world.copy_parameters(learner)
        self.learner = learner
        self.schedule = Schedule(self.optimizer, config.train, self.data.batches)
        self.scaler = make_scaler(config.train.precision, self.device)
        self.average = AveragedModel(self.model, multi_avg_fn=ema_with_warmup(config.train.ema_decay), use_buffers=True)

    def _targets(self) -> tuple[NDArray[np.float32], int]:
        """A row a training clip and behind them plain speech: classes, sentences, features; and the features' width."""
        config, clips = self.config.train, (*self.split.train, *self.ordinary)
        targets = training_targets(self.split.train, self.labels, config.votes)
        if self.taught is not None:
            self.taught.soften(targets, self.split.train, self.labels, config.taught)
        if self.ordinary:
            targets = np.vstack((targets, ordinary_targets(len(self.ordinary), self.labels, config.ordinary)))
        parts = [targets]
        if self.ordinary:
            # Which rows are plain speech; see _step.
            parts.append(
                np.repeat(np.array([0.0, 1.0], np.float32), [len(self.split.train), len(self.ordinary)])[:, None]
            )
        if self.sentences:
            parts.append(sentence_targets(clips, self.sentences))
        if self.taught is None or not config.features:
            return np.hstack(parts), 0
        features = self.taught.features_of(clips)
        return np.hstack((*parts, features)), features.shape[1]

    def _groups(self) -> NDArray[np.int64]:
        """A number for each speaker and label, ``(clips,)``, of the training clips and of plain speech."""
        names = [f"{clip.speaker} {clip.label}" for clip in (*self.split.train, *self.ordinary)]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or ``patience`` has run out."""
        config, uars = self.config.train, [epoch.scores.uar for epoch in self.history]
        if len(uars) >= config.epochs:
            return True
        return 0 < config.patience <= len(uars) - 1 - int(np.argmax(uars)) if uars else False

    def fit(self, on_step: OnStep | None = None, on_epoch: Callable[[Epoch], object] | None = None) -> None:
        """Train to the end, from the epoch after the last finished one.

        Args:
            on_step: called with (step in epoch, steps, running loss).
            on_epoch: called after each epoch, once its checkpoint is on disk.
        """
        best = max((epoch.scores.uar for epoch in self.history), default=-1.0)
        if self.world.first:
            # Here and no earlier: a resumed run has been found to have these settings.
            run_folder.write_json(self.out / run_folder.CONFIG, self.config.as_dict())
            run_folder.write_windows(self.out, self.validation.windows)
        while not self.finished:
            started = time.perf_counter()
            number = len(self.history)
            loss = self._train_epoch(number, on_step)
            lr = self.schedule.lr
            self.validated = self._evaluate(self.validation)
            scores = self.validated.scores
            self.schedule.after_epoch(scores.nll)
            seconds = time.perf_counter() - started
            self._elapsed_s += seconds
            self.history.append(Epoch(number + 1, loss, scores.nll, lr, seconds, scores))
            if self.world.first:
                self._save(scores.uar > best)
            best = max(best, scores.uar)
            if on_epoch is not None:
                on_epoch(self.history[-1])
        if self.validated is None:
            self.validated = self._evaluate(self.validation)
        if self.test is not None:
            self.tested = self._evaluate(self.test)
        if self.world.first:
            self._write_results()

    def _train_epoch(self, number: int, on_step: OnStep | None) -> float:
        config = self.config.train
        # Seeds hang on the epoch's number alone, so a resumed run draws what an unbroken one would have drawn.
        # Dropout differs between processes; what is drawn for the whole batch does not.
        torch.manual_seed(config.seed * 100_003 + number + 1_000_003 * self.world.rank)
        rng = np.random.default_rng((config.seed, number, 1))
        self.model.train()
        if config.body_lr == 0.0:
            for name, child in self.model.network.named_children():
                child.train(HEAD.startswith(name))
        total, steps = 0.0, self.data.batches
        for step, (waves, targets) in enumerate(self.data.epoch((config.seed, number, 0))):
            self.schedule.before_step(number * steps + step)
            value = self._step(*self._inputs(waves, targets, rng))
            if not math.isfinite(value):
                raise TrainError(
                    f"the loss became {value} in epoch {number + 1}; start again in a new --out with a lower --lr"
                )
            total += value
            if on_step is not None:
                on_step(step + 1, steps, total / (step + 1))
        return total / steps

    @torch.no_grad()
    def _inputs(
        self, waves: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """This process' rows of a batch: normalised augmented windows, targets, and what teachers say of them."""
        config, share = self.config.augment, self.world.share
        targets = targets.to(self.device)

        def augmented(x: torch.Tensor, draws: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            x, mixed = mixup(spec_augment(x, config, draws), targets, config.mixup_alpha, draws)
            return share(x), share(mixed)

        log_mel = self.features(waves.to(self.device))
        taught = None
        if self.teachers is not None:
            taught = self.teachers.probabilities(log_mel, lambda x, draws: augmented(x, draws)[0], rng)
        return (*augmented(self.model.normalize(log_mel), rng), taught)

    def _step(self, x: torch.Tensor, targets: torch.Tensor, taught: torch.Tensor | None) -> float:
        """One step of the optimiser and of the average; returns the loss over all processes."""
        config, parts = self.config.train, self.config.train.accumulate
        plain = None
        if self.ordinary:
            # Taught to the whole network, the weak target would make it tell corpora apart: whatever is not one of the
            # acted ones would be neutral, in other languages too. So it trains the classifier alone.
            classes = len(self.labels)
            plain = targets[:, classes] > 0.0
            targets = torch.cat((targets[:, :classes], targets[:, classes + 1 :]), dim=1)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for part in range(parts):
            with autocast(config.precision, self.device):
                rows = () if plain is None else (plain[part::parts],)
                logits = self.learner(x[part::parts], *rows)
            said = None if taught is None else taught[part::parts]
            loss = self.loss(logits.float(), targets[part::parts], said) / parts
            self.scaler.scale(loss).backward()
            total += loss.detach()
        value = float(self.world.mean(total))
        if not math.isfinite(value):
            return value
        # Before they are unscaled: a gradient that overflows in one process is then seen, and passed over, by all.
        self.world.mean_gradients(self.learner)
        self.scaler.unscale_(self.optimizer)
        if config.grad_clip:
            nn.utils.clip_grad_norm_(self.learner.parameters(), config.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update_parameters(self.model)
        return value

    @torch.no_grad()
    def _evaluate(self, part: Part) -> Predictions:
        """The averaged weights on a part, its windows dealt out to the processes."""
        self.average.eval()
        self.world.copy_buffers(self.average)
        with autocast(self.config.train.precision, self.device):
            rows = [self.average(x.to(self.device)).float() for x in self.world.share(part.windows).split(64)]
        logits = self.world.join(torch.cat(rows), len(part.windows))
        return Predictions(part, logits.double().cpu().numpy())

    def parameters(self) -> int:
        """Parameters of the network."""
        return self.cost.parameters

    def speakers(self) -> set[str]:
        """All whose voices the weights go back to, through the start and the teachers too."""
        heard = {clip.speaker for clip in (*self.split.train, *self.ordinary)}
        heard.update(self.teachers.speakers if self.teachers else ())
        heard.update(self.start["describe"]["train_speakers"] if self.start else ())
        return heard

    def licences(self) -> dict[str, str]:
        """What binds the weights, by corpus: also what binds those of the start and of the teachers."""
        return {
            **(self.start["licences"] if self.start else {}),
            **(self.teachers.licences if self.teachers else {}),
            **{corpus.name: corpus.licence for corpus in (*self.corpora, *self.ordinary_corpora)},
        }

    def heard_before(self) -> int:
        """Speakers held out here whom the start or a teacher knows from training."""
        own = {clip.speaker for clip in self.split.train}
        held_out = {clip.speaker for clip in (*self.split.validation, *self.split.test)}
        return len((self.speakers() - own) & held_out)

    def describe(self) -> dict[str, Any]:
        """What the run is, for its metrics and the exported card."""
        chosen = set(self.ordinary)
        return {
            "corpora": {corpus.name: len(corpus.clips) for corpus in self.corpora},
            "dropped": {corpus.name: [stem for stem, _ in corpus.dropped] for corpus in self.corpora},
            "split": self.split.name,
            "train_clips": len(self.split.train),
            "validation_clips": len(self.split.validation),
            "test_clips": len(self.split.test),
            "train_speakers": sorted(self.speakers()),
            "start": self.taken_over.describe() if self.taken_over else "",
            "teachers": self.teachers.names if self.teachers else [],
            "taught": self.taught.name if self.taught else "",
            "ordinary": {corpus.name: sum(c in chosen for c in corpus.clips) for corpus in self.ordinary_corpora},
            "sentences": len(self.sentences),
            "seed": self.config.train.seed,
            "epochs": len(self.history),
            "train_seconds": round(self._elapsed_s, 1),
            "torch": str(torch.__version__),  # a TorchVersion would not load with weights_only
            "stream_ser": __version__,
            "commit": self._commit,
            "device": str(self.device),
            "machine": run_folder.machine(self.device),
            "processes": self.world.size,
        }

    def _save(self, best: bool) -> None:
        state = self._state()
        # The best first: killed in between, a resumed run repeats this epoch and writes it again.
        if best:
            exported = {k: v for k, v in state.items() if k not in TRAINING_STATE}
            write_atomically(self.out / BEST, functools.partial(torch.save, exported))
        write_atomically(self.out / CHECKPOINT, functools.partial(torch.save, state))
        self._write_results()

    def _write_results(self) -> None:
        """``metrics.json`` and the predictions, as far as they are known."""
        content = {
            "network": self.config.network,
            **self.cost.as_dict(),
            "labels": list(self.labels),
            **self.describe(),
            "finished": self.finished and (self.test is None or self.tested is not None),
            "history": [epoch.as_dict() for epoch in self.history],
        }
        if self.validated is not None:
            content["temperature"] = self.validated.temperature
            self.validated.save(self.out / run_folder.PREDICTIONS, self.labels)
        if self.tested is not None:
            content["test"] = self.tested.scores.as_dict()
            if set(self.tested.part.truth.tolist()) != set(range(len(self.labels))):
                content["test_present_classes"] = self.tested.present_scores.as_dict()
            self.tested.save(self.out / run_folder.TEST_PREDICTIONS, self.labels)
        run_folder.write_json(self.out / run_folder.METRICS, content)

    def _state(self) -> dict[str, Any]:
        assert self.validated is not None
        return {
            "format": 1,
            "network": self.config.network,
            "config": self.config.as_dict(),
            "labels": list(self.labels),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "average": self.average.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "auxiliary": self.auxiliary.state_dict() if self.auxiliary is not None else {},
            "features_head": self.features_head.state_dict() if self.features_head is not None else {},
            "history": [epoch.as_dict() for epoch in self.history],
            "describe": self.describe(),
            "licences": self.licences(),
            "temperature": self.validated.temperature,
        }

    def resume(self) -> bool:
        """Load the run folder's checkpoint, if there is one.

        Returns:
            whether there was one.

        Raises:
            TrainError: a checkpoint of another configuration, or one that cannot be read.
        """
        path = self.out / CHECKPOINT
        state = self.world.from_first(lambda: read_checkpoint(path) if path.is_file() else None)
        if state is None:
            return False
        run_folder.check_same_run(path, state, self.config, self.describe(), self.labels, self.mean, self.std)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state.get("schedule", {}))
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(state["auxiliary"])
        if self.features_head is not None:
            self.features_head.load_state_dict(state["features_head"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.history = [Epoch.from_dict(epoch) for epoch in state["history"]]
        self._elapsed_s = state["describe"]["train_seconds"]
        return True
