"""OnnxPasses: the session of one target, opened anew where its weights or PyTorch's threads have changed."""

from __future__ import annotations

from transformers import PreTrainedModel

from .families import Traits
from .onnx_engine import OnnxEngine
from .onnx_export import why_not
from .onnx_session import Session
from .onnx_store import open_session


class OnnxPasses:
    """Gives out engines for decodes of one model; it holds the weights and not the model.

    Raises ValueError, here and later, with the reason in a few words, where PyTorch has to serve.
    """

    def __init__(self, model: PreTrainedModel, traits: Traits, state_layers: tuple[int, ...] = ()):
        self._traits = traits
        self._session: Session = open_session(model, traits, state_layers)

    @property
    def threads(self) -> int:
        """How many compute a pass."""
        return self._session.threads

    def engine(self, model: PreTrainedModel, state_layers: tuple[int, ...] = ()) -> OnnxEngine:
        """An engine for one decode, as for `Target.engine`."""
        if (reason := why_not(model, self._traits)) is not None:
            raise ValueError(reason)
        if not self._session.knows(model):
            raise ValueError("its modules or hooks are others than when it was loaded")
        layers = {*state_layers, *self._session.layout.state_layers}
        if len(layers) > len(self._session.layout.state_layers) or not self._session.serves(model):
            self._session = open_session(model, self._traits, tuple(sorted(layers)))
        return OnnxEngine(self._session, model, state_layers, self._traits)
