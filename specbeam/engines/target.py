"""Target: what belongs to one loaded model for its lifetime, made once and found again from the model."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch.distributed as dist
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION
from specbeam.core.draft import Draft
from specbeam.core.expand import DraftSize
from specbeam.core.scorer import Engine, TreeScorer
from specbeam.core.source import Source
from specbeam.core.stats import Observer

from .cuda_graphs import Recordings
from .draft_size import AdaptiveDraftSize, DraftSizeByBeams, LatencyCurve
from .families import Traits, refuse_unservable
from .graph_engine import GraphEngine
from .latency import TYPICAL, forget_latency, latency_of
from .memory import recover_memory
from .probe import probe
from .ranks import Ranks, sharing
from .rope import RereadingEngine
from .sequences import SequenceEngine
from .torch_engine import TorchEngine
from .wrappers import unwrapped

if TYPE_CHECKING:
    from .onnx_passes import OnnxPasses

_ATTRIBUTE = "_specbeam_target"
_MAKING = threading.Lock()  # two threads that meet a model at once share one target


class DecodeLock:
    """One decode at a time: a target measures and records its passes, and a draft remembers one decode at a time.

    Waits for another thread. Raises ValueError where this very thread holds it already (within `watch`, a processor, a
    criterion): waiting would never end.
    """

    def __init__(self, what: str):
        self._what, self._lock, self._holder = what, threading.Lock(), 0

    def __enter__(self) -> None:
        if self._holder == threading.get_ident():
            raise ValueError(
                f"this {self._what} is in the middle of a decode: let that end before another begins, or load a "
                "second pair."
            )
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._holder = 0
        self._lock.release()

    def __reduce__(self) -> Any:
        """A copy of what it locks has a lock of its own."""
        return DecodeLock, (self._what,)


class Target:
    """A causal LM that is decoded: which engine forwards it, what a pass costs, and who decodes with it now.

    Attributes:
        lock: held during a decode, calibration and probing included.
        no_tree: why its engine reads sequences instead of trees; None if it reads trees, or has not been tried yet.
        recordings: its CUDA graphs, if it is to have any (`record_passes`).
        onnx: its passes in ONNX Runtime, if it is to have any (`use_onnx`).

    Raises:
        ValueError: for models that cannot be decoded at all (encoder-decoder, flash attention).
    """

    def __init__(self, model: PreTrainedModel):
        refuse_unservable(model)
        self._model, self.traits = ref(model), Traits.of(model)
        self._attention = getattr(model.config, ATTENTION, None)  # that was looked at
        self.lock = DecodeLock(type(model).__name__)
        self.no_tree: str | None = None
        self.recordings: Recordings | None = None
        self.onnx: OnnxPasses | None = None
        self._probed = self._warned = False
        self._latency: LatencyCurve | None = None
        self._corrected = False
        self._level_s: dict[tuple[type, ...], dict[int, float]] = {}  # of drafting, by kinds of drafts

    @classmethod
    def of(cls, model: Any) -> Target:
        """The target of `model`, or of the causal LM in a wrapper, made at the first call.

        It goes with the model, and a copy has one of its own.
        """
        model = unwrapped(model)
        with _MAKING:
            known = vars(model).get(_ATTRIBUTE)
            if not isinstance(known, Target) or known._model() is not model:
                known = vars(model)[_ATTRIBUTE] = cls(model)
        return known

    @property
    def model(self) -> PreTrainedModel:
        model = self._model()
        assert model is not None
        return model

    def __reduce__(self) -> Any:
        """A model that is copied or pickled leaves it behind."""
        return _nothing, ()

    def probe(self) -> str | None:
        """Why the model cannot verify a tree, or None if it can. A model of an untested family is tried once."""
        if not self._probed:
            self.no_tree, self._probed = probe(self.model, self.traits)
        return self.no_tree

    def engine(self, state_layers: tuple[int, ...] = ()) -> Engine:
        """An engine for one decode at a time, with a cache of its own.

        A model that cannot verify a tree is read by sequences, with a warning once.

        Args:
            state_layers: hidden states to return of every pass; 0 is the embedding.
        """
        model = self.model
        if (attention := getattr(model.config, ATTENTION, None)) != self._attention:
            refuse_unservable(model)
            self._attention = attention
        if self.probe() is not None:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"{type(model).__name__} cannot verify a token tree: {self.no_tree}. Every sequence is read "
                    "from its beginning instead, which gives the same results and is slower.",
                    stacklevel=2,
                )
            return SequenceEngine(model, state_layers, self.traits)
        if (rope := self.traits.rope) is not None and rope.rereads:
            engines = TorchEngine(model, state_layers, self.traits), SequenceEngine(model, state_layers, self.traits)
            return RereadingEngine(rope, *engines)
        if self.onnx is not None:
            try:
                return self.onnx.engine(model, state_layers)
            except ValueError as error:
                self.use_torch()
                warnings.warn(
                    f"{type(model).__name__} runs in PyTorch from here on, not in ONNX Runtime: {error}", stacklevel=2
                )
        if self.recordings is not None and not self.recordings.refused:
            return GraphEngine(self.recordings, model, state_layers, self.traits)
        return TorchEngine(model, state_layers, self.traits)

    def record_passes(self) -> None:
        """Have passes over trees recorded as CUDA graphs from now on. Raises ValueError unless on one CUDA device."""
        self.recordings = Recordings(self.model)

    def use_onnx(self, state_layers: tuple[int, ...] = ()) -> None:
        """Have passes run in ONNX Runtime from now on, which may export the model first.

        Args:
            state_layers: hidden states that decodes will ask for; others mean another export.

        Raises:
            ValueError: with the reason, in a few words, where PyTorch has to serve.
        """
        if (reason := self.probe()) is not None:
            raise ValueError(reason)
        from .onnx_passes import OnnxPasses  # half a second, for those who use it

        self.onnx, self._latency = OnnxPasses(self.model, self.traits, state_layers), None

    @property
    def runtime(self) -> str:
        """What passes run in: "onnx" or "torch"."""
        return "torch" if self.onnx is None else "onnx"

    def use_torch(self) -> None:
        """Have passes run in PyTorch from now on."""
        self.onnx, self._latency = None, None

    @property
    def ranks(self) -> Ranks | None:
        """The processes that share the model, if there are several."""
        return sharing(self.model) if dist.is_available() and dist.is_initialized() else None

    @property
    def latency(self) -> LatencyCurve:
        """Seconds of a pass by the number of its tokens: out of the cache, or measured now."""
        self._latency = self._latency or latency_of(self)
        return self._latency

    def undisturbed(self) -> AbstractContextManager[Any]:
        """Within it nothing else here takes processors from passes."""
        if self.onnx is None:
            return nullcontext()
        from .onnx_threads import torch_on_one_thread

        return torch_on_one_thread()

    def correct_latency(self) -> None:
        """Measure the curve again: passes were clearly faster than it says.

        Once in a process is enough: if passes are still faster after that, it is not the measurement.
        """
        if not self._corrected and self._latency is not TYPICAL:
            forget_latency(self)
            self._corrected, self._latency = True, None

    @contextmanager
    def decoding(
        self, draft: Draft | None = None, num_assistant_tokens: int | None = None, observers: Sequence[Observer] = ()
    ) -> Iterator[Source]:
        """A source for one decode, which ends with the block however it ends. Nobody else decodes meanwhile.

        Args:
            draft: what proposes nodes, the same on all `ranks`.
            num_assistant_tokens: most drafted nodes a pass and prompt; None chooses pass by pass.
        """
        ranks, draft = self.ranks, None if num_assistant_tokens == 0 else draft
        with ExitStack() as held:
            for lock in (self.lock, *getattr(draft, "locks", ())):
                held.enter_context(lock)
            if num_assistant_tokens is not None or draft is None:
                size = DraftSize(num_assistant_tokens or 0)
            elif ranks is not None:  # each has a clock of its own
                size = DraftSizeByBeams()
            else:
                levels = self._level_s.setdefault(tuple(map(type, getattr(draft, "drafts", [draft]))), {})
                size = AdaptiveDraftSize(self.latency, self.correct_latency, levels)
            scorer = TreeScorer(self.engine(draft.state_layers if draft else ()))
            held.enter_context(self.undisturbed())
            source = Source(scorer, draft, size, observers, partial(recover_memory, size, ranks))
            held.callback(source.finish)
            yield source


def _nothing() -> None:
    """What a pickled target comes back as."""
