"""Recorded passes. A stand-in for the graphs repeats a pass on the CPU: all but the recording is tested here."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from fakes import fake_pair, hash_lm
from scoring import Unlucky, fail
from sparse import mostly_slow
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.core.scorer import Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree
from specbeam.engines import cuda_graphs
from specbeam.engines.graph_engine import GraphEngine
from specbeam.engines.target import Target
from specbeam.engines.torch_engine import TorchEngine
from specbeam.evaluation.family_cases import FEW, WildDraft, run_family
from specbeam.evaluation.tiny_families import FAMILIES, Family


class Again:
    """Stands for a graph: a replay runs the pass once more, into the outputs of the first."""

    def __init__(self, run: cuda_graphs.Run, inputs: cuda_graphs.Inputs):
        self._run, self._inputs, self.outputs, self.replays = run, inputs, run(inputs), 0

    def replay(self) -> None:
        self.replays += 1
        for output, new in zip(self.outputs, self._run(self._inputs), strict=True):
            output.copy_(new)


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Again]:
    made: list[Again] = []

    def record(run: cuda_graphs.Run, inputs: cuda_graphs.Inputs, pool: Any) -> tuple[Again, Any]:
        made.append(Again(run, inputs))
        return made[-1], made[-1].outputs

    monkeypatch.setattr(cuda_graphs, "DEVICES", {"cpu"})
    monkeypatch.setattr(cuda_graphs, "new_pool", lambda: None)
    monkeypatch.setattr(cuda_graphs, "record", record)
    return made


def recorded(**options: Any) -> Any:
    model = tiny_llama(**options)
    Target.of(model).record_passes()
    return model


def graphed(model: Any, layers: tuple[int, ...] = ()) -> TreeScorer:
    """A scorer whose engine records its passes, and fails when it is told to."""
    engine = Target.of(model).engine(layers)
    assert isinstance(engine, GraphEngine)
    return TreeScorer(Unlucky(engine))  # type: ignore[arg-type]


INPUTS = {"input_ids": torch.tensor([[7, 8, 9, 10]])}
OPTIONS: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 40, "eos_token_id": None}


def hybrid(model: Any, **options: Any) -> list[int]:
    options = {**OPTIONS, "num_assistant_tokens": 9, **options}
    return sb.speculative_beam(fake_pair(model, WildDraft(model.config.vocab_size)), INPUTS, **options).sequences[0]


def wanted(model: Any) -> list[int]:
    return model.generate(**INPUTS, **OPTIONS, do_sample=False)[0, 4:].tolist()


def settled(model: Any) -> None:
    """Decode twice: a shape is recorded when it comes for the second time."""
    for _ in range(2):
        assert hybrid(model) == wanted(model)


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        ["llama", "mistral", "gpt2", "opt", "gemma3_text", "bloom", "gpt_neox", "mixtral"],
        lambda name: name in ("llama", "gpt2", "gemma3_text"),
    ),
)
def test_families_decode_as_generate_does_with_rounded_passes(name: str, graphs: list[Again]) -> None:
    family: Family = next(each for each in FAMILIES if each.kind == name)
    for row in run_family(family, FEW, cuda_graphs=True):
        assert row.different == [] and row.cases == len(FEW)
    assert bool(graphs) == (name != "bloom")  # ALiBi follows the slots, which a recording fixes


def test_random_trees_score_as_they_do_without_recordings(graphs: list[Again]) -> None:
    """Batches that shrink, compaction, a cache that grows and passes that fail."""
    draw = random.Random(0)
    model = hash_lm(24, 3)
    Target.of(model).record_passes()
    for _ in range(6):
        prompts = [[draw.randrange(24) for _ in range(draw.randint(1, 9))] for _ in range(draw.randint(1, 3))]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(one)) + one for one in prompts])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
        scorers = graphed(model), TreeScorer(TorchEngine(model))
        pairs = [(scorer, [TokenTree(one) for one in prompts]) for scorer in scorers]
        roots = [scorer.start(trees, Request(ids, mask)).logits for scorer, trees in pairs]
        assert torch.equal(*roots)
        standing = [[ROOT] for _ in prompts]
        for step in range(30):
            if step == 20 and len(prompts) > 1:
                standing[0] = []
            asked: list[list[int]] = [[] for _ in prompts]
            for b, running in enumerate(standing):
                for node in running:
                    for _ in range(draw.randint(1, 8)):
                        token, deeper = draw.randrange(24), draw.randrange(24)
                        children = [trees[b].child(trees[b].child(node, token), deeper) for _, trees in pairs]
                        assert children[0] == children[1]
                        asked[b] += [trees[b].parents[children[0]] for _, trees in pairs[:1]] + children[:1]
                asked[b] = sorted({node for node in asked[b] if not pairs[0][0].scored(b, node)})
            if not any(asked):
                continue
            if step % 7 == 3:
                fail(pairs[0][0], asked)
            rows = [scorer.score(asked).logits for scorer, _ in pairs]
            assert torch.equal(*rows)
            standing = [draw.sample(some, min(2, len(some))) or old for some, old in zip(asked, standing, strict=True)]
            for scorer, _ in pairs:
                scorer.compact(standing)
        for scorer, _ in pairs:
            scorer.engine.close()
    assert len(graphs) > 10 and sum(graph.replays for graph in graphs) > 60


def test_recordings_serve_the_next_decode_and_two_at_once_have_their_own(graphs: list[Again]) -> None:
    model = recorded()
    settled(model)
    made = len(graphs)
    assert made and hybrid(model) == wanted(model)
    assert len(graphs) == made
    assert hybrid(model, num_assistant_tokens=60) == wanted(model)  # a wider pass is another shape
    assert len(graphs) > made
    scorers = [graphed(model), graphed(model)]
    trees = [TokenTree([3, 1, 4]), TokenTree([9, 8, 7])]
    for scorer, tree in zip(scorers, trees, strict=True):
        scorer.start([tree], Request(torch.tensor([tree.prompt]), torch.ones(1, 3, dtype=torch.long)))
    for token in range(5):
        for scorer, tree in zip(scorers, trees, strict=True):
            row = scorer.score([[tree.child(ROOT, token)]]).logits[0]
            plain = model(torch.tensor([[*tree.prompt, token]])).logits[0, -1]
            torch.testing.assert_close(row, plain)


def scaled(model: Any) -> None:
    model.model.layers[1].mlp.down_proj.weight.data = -model.model.layers[1].mlp.down_proj.weight.data


def switched(model: Any) -> None:
    model.model.layers[1].mlp.down_proj.enabled = True  # as adapters keep their switches


def hooked(model: Any) -> None:
    model.model.layers[1].register_forward_hook(lambda module, given, output: output)


def rescaled(model: Any) -> None:
    model.model.layers[1].mlp.down_proj.scales = torch.ones(3)  # a tensor that is neither parameter nor buffer


@pytest.mark.parametrize("change", [rescaled, scaled, switched, hooked])
def test_a_model_that_has_changed_is_recorded_anew(change: Any, graphs: list[Again]) -> None:
    model = recorded()
    settled(model)
    made = len(graphs)
    change(model)
    assert hybrid(model) == wanted(model)
    assert len(graphs) > made


def test_a_pass_that_cannot_be_recorded_is_launched_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(cuda_graphs, "record", refused)
    model = recorded()
    with pytest.warns(
        UserWarning, match=r"LlamaForCausalLM are not recorded .*\(operation not permitted when stream is"
    ):
        assert hybrid(model) == wanted(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hybrid(model) == wanted(model)


def test_a_recording_that_repeats_numbers_of_its_first_pass_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stale(Again):
        def replay(self) -> None:
            """Leaves the outputs as they were."""

    def record(run: cuda_graphs.Run, inputs: cuda_graphs.Inputs, pool: Any) -> tuple[Again, Any]:
        graph = Stale(run, inputs)
        return graph, graph.outputs

    monkeypatch.setattr(cuda_graphs, "record", record)
    model = recorded()
    with pytest.warns(UserWarning, match="a recorded pass differs from an ordinary one"):
        assert hybrid(model) == wanted(model)


def test_a_cache_of_many_bytes_is_not_kept_for_the_next_decode(
    graphs: list[Again], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "MOST_KEPT", 10)
    model = recorded()
    settled(model)
    made = len(graphs)
    hybrid(model)
    assert made and len(graphs) > made


def test_a_model_elsewhere_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "DEVICES", {"cuda"})
    model = tiny_llama()
    with pytest.raises(ValueError, match="needs a model on one CUDA device, and this one lies on cpu"):
        Target.of(model).record_passes()


def test_states_for_a_trained_draft_come_out_of_a_recorded_pass() -> None:
    model = recorded()
    scorers = graphed(model, (0, 2)), TreeScorer(TorchEngine(model, (0, 2)))
    tree = TokenTree([3, 1, 4])
    chain = [tree.child(ROOT, 5)]
    for token in (6, 7, 8):
        chain.append(tree.child(chain[-1], token))
    for scorer in scorers:
        scorer.start([tree], Request(torch.tensor([tree.prompt]), torch.ones(1, 3, dtype=torch.long)))
    for nodes in (chain[:1], chain[1:2], chain[2:3], chain[3:]):
        outputs = [scorer.score([nodes]) for scorer in scorers]
        torch.testing.assert_close(*[output.logits for output in outputs])
        assert outputs[0].states is not None
        torch.testing.assert_close(*[output.states for output in outputs])


def test_an_oracle_on_the_very_model_that_it_drafts_for_has_passes_of_its_own() -> None:
    model = recorded()
    found = sb.speculative(fake_pair(model, sb.ModelDraft(model)), INPUTS, max_new_tokens=20, eos_token_id=None)
    expected = model.generate(**INPUTS, max_new_tokens=20, eos_token_id=None, do_sample=False)[0, 4:].tolist()
    assert found.sequences[0] == expected and found.stats.target_passes < 15


def test_the_rounding_of_rows_is_never_down() -> None:
    for rows in range(1, 300):
        assert rows <= cuda_graphs.rounded(rows) <= max(2 * rows, 1)


def test_a_cache_that_grew_in_part_is_recorded_anew(graphs: list[Again]) -> None:
    """Memory that gives out half-way through a growth leaves some layers with new buffers and some with old ones."""
    model = recorded()
    scorer, tree = graphed(model), TokenTree([3, 1, 4])
    scorer.start([tree], Request(torch.tensor([tree.prompt]), torch.ones(1, 3, dtype=torch.long)))
    for token in range(5):
        scorer.score([[tree.child(ROOT, token)]])
        if token == 2:
            last = scorer.engine.cache.layers[-1]  # type: ignore[attr-defined]
            last.reserve(last.buffers[0].shape[2] + 1, 0)  # type: ignore[attr-defined]
    assert len(graphs) == 2
