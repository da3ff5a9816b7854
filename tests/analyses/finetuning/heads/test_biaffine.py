"""The biaffine parser against sums in plain loops, and its gradients against finite differences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.heads.biaffine import BiaffineHead, relation_scores
from layerlake.analyses.finetuning.heads.task_heads import initialise, mean_of_pieces
from layerlake.analyses.finetuning.tasks.parsing import UNKNOWN, Parsing

HIDDEN, RELATIONS, ARC, LABEL = 5, 3, 4, 3
N_WORDS = [3, 1]
WORD_OF_PIECE = [[-1, 0, 0, 1, 2, -1], [-1, 3, -1, -1, -1, -1]]
GOLD = [[2, 0, 2], [0]]
GOLD_RELATION = [[1, 0, 2], [0]]


def a_head(*, learned_root: bool, seed: int = 0) -> BiaffineHead:
    head = BiaffineHead(
        HIDDEN,
        RELATIONS,
        arc_width=ARC,
        label_width=LABEL,
        dropout=0.3,
        learned_root=learned_root,
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return head.eval()


def a_hidden(seed: int = 1) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 6, HIDDEN, generator=generator, dtype=torch.float64)


def targets() -> dict[str, Any]:
    """Return two sentences of three words and one, laid as the task lays them."""
    gold = [[UNKNOWN, *GOLD[0]], [UNKNOWN, *GOLD[1], UNKNOWN, UNKNOWN]]
    relation = [[UNKNOWN, *GOLD_RELATION[0]], [UNKNOWN, *GOLD_RELATION[1], UNKNOWN, UNKNOWN]]
    return {
        "word_of_piece": torch.tensor(WORD_OF_PIECE),
        "n_words": torch.tensor(N_WORDS),
        "places": torch.tensor([[4, 0, 1, 2], [5, 3, 0, 0]]),
        "real": torch.tensor([[True] * 4, [True, True, False, False]]),
        "gold_head": torch.tensor(gold),
        "gold_relation": torch.tensor(relation),
    }


def vector(layer: Any, row: Any) -> list[float]:
    """Return an activated linear layer, number by number."""
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    found = []
    for unit in range(layer.out_features):
        total = bias[unit]
        for place in range(layer.in_features):
            total += weight[unit][place] * row[place]
        found.append(total if total > 0 else 0.1 * total)
    return found


def rows_of(head: BiaffineHead, hidden: Any, sentence: int) -> list[list[float]]:
    """Return the vectors of ROOT and the words of a sentence, the mean over their pieces."""
    shift = sum(N_WORDS[:sentence])
    root = hidden[sentence, 0] if head.root is None else head.root
    rows = [root.tolist()]
    for word in range(N_WORDS[sentence]):
        pieces = [p for p in range(6) if WORD_OF_PIECE[sentence][p] == word + shift]
        mean = [sum(float(hidden[sentence, p, k]) for p in pieces) for k in range(HIDDEN)]
        rows.append([total / len(pieces) for total in mean])
    return rows


@pytest.mark.parametrize("learned_root", [True, False])
def test_scores_are_the_sums_of_the_textbook(learned_root: bool) -> None:
    head, hidden = a_head(learned_root=learned_root), a_hidden()
    with torch.no_grad():
        outputs = head(hidden, {}, targets())
    relations, arcs, prior = (
        each.tolist() for each in (outputs["relations"], head.arcs, head.arc_prior)
    )
    for sentence, n in enumerate(N_WORDS):
        rows = rows_of(head, hidden, sentence)
        for dependent in range(n + 1):
            d = vector(head.arc_dependent, rows[dependent])
            for other in range(n + 1):
                h = vector(head.arc_head, rows[other])
                expected = sum(prior[j] * h[j] for j in range(ARC))
                for i in range(ARC):
                    for j in range(ARC):
                        expected += d[i] * arcs[i][j] * h[j]
                assert float(outputs["arcs"][sentence, dependent, other]) == pytest.approx(
                    expected, rel=1e-12, abs=1e-12
                )
                at = (torch.tensor([place]) for place in (sentence, dependent, other))
                found = relation_scores(outputs, *at).detach()
                one = [*vector(head.label_dependent, rows[dependent]), 1.0]
                two = [*vector(head.label_head, rows[other]), 1.0]
                for relation in range(RELATIONS):
                    expected = sum(
                        one[i] * relations[relation][i][j] * two[j]
                        for i in range(LABEL + 1)
                        for j in range(LABEL + 1)
                    )
                    assert float(found[0, relation]) == pytest.approx(expected, rel=1e-12)


def test_where_no_word_is_no_head_can_be() -> None:
    arcs = a_head(learned_root=True)(a_hidden(), {}, targets())["arcs"]
    assert torch.isneginf(arcs[1, :, 2:]).all()
    assert torch.isfinite(arcs[1, :, :2]).all()
    assert torch.isfinite(arcs[0]).all()


def loss_of(head: BiaffineHead, hidden: Any) -> Any:
    batch: Any = SimpleNamespace(targets=targets())
    return Parsing().loss(head(hidden, {}, batch.targets), batch).detach()


def test_the_loss_is_the_sum_of_both_cross_entropies_in_float64() -> None:
    head, hidden = a_head(learned_root=True), a_hidden()
    outputs = head(hidden, {}, targets())
    expected = 0.0
    for sentence, n in enumerate(N_WORDS):
        for word in range(1, n + 1):
            gold = GOLD[sentence][word - 1]
            scores = outputs["arcs"][sentence, word, : n + 1].detach().numpy()
            expected += float(np.log(np.exp(scores).sum()) - scores[gold])
            at = (torch.tensor([place]) for place in (sentence, word, gold))
            scores = relation_scores(outputs, *at)[0].detach().numpy()
            expected += float(
                np.log(np.exp(scores).sum()) - scores[GOLD_RELATION[sentence][word - 1]]
            )
    assert float(loss_of(head, hidden)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("learned_root", [True, False])
def test_gradients_are_those_of_finite_differences(learned_root: bool) -> None:
    head, hidden = a_head(learned_root=learned_root), a_hidden().requires_grad_()
    names = [name for name, _ in head.named_parameters()]
    assert len(names) == (12 if learned_root else 11)

    def of(hidden: Any, *parameters: Any) -> Any:
        batch: Any = SimpleNamespace(targets=targets())
        given = dict(zip(names, parameters, strict=True))
        outputs = torch.func.functional_call(head, given, (hidden, {}, batch.targets))
        return Parsing().loss(outputs, batch)

    parameters = tuple(parameter.detach().requires_grad_() for parameter in head.parameters())
    assert torch.autograd.gradcheck(of, (hidden, *parameters), eps=1e-6, atol=1e-7, rtol=1e-6)
    gradients = torch.autograd.grad(of(hidden, *parameters), (hidden, *parameters))
    # ROOT's own vector has a share in every arc, and pieces of no word have none.
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    outside = torch.tensor(WORD_OF_PIECE) < 0
    if not learned_root:
        outside[:, 0] = False
    assert (gradients[0][outside] == 0).all()


def test_a_relation_that_is_not_known_adds_no_loss() -> None:
    head, hidden = a_head(learned_root=True), a_hidden()
    whole = float(loss_of(head, hidden))
    batch: Any = SimpleNamespace(targets=targets())
    batch.targets["gold_relation"][0, 2] = UNKNOWN
    outputs = head(hidden, {}, batch.targets)
    left = float(Parsing().loss(outputs, batch).detach())
    scores = relation_scores(outputs, *(torch.tensor([at]) for at in (0, 2, GOLD[0][1])))
    lost = torch.nn.functional.cross_entropy(scores, torch.tensor([GOLD_RELATION[0][1]]))
    assert whole - left == pytest.approx(float(lost.detach()), rel=1e-9)


def test_means_of_pieces_are_those_of_a_loop() -> None:
    hidden = a_hidden()
    found = mean_of_pieces(hidden, torch.tensor(WORD_OF_PIECE), 4)
    flat = [(hidden[b, p], WORD_OF_PIECE[b][p]) for b in range(2) for p in range(6)]
    for word in range(4):
        pieces = [row for row, of in flat if of == word]
        expected = sum(pieces[1:], pieces[0]) / len(pieces)
        assert torch.allclose(found[word], expected, rtol=1e-14)


def test_new_weights_are_a_normal_cut_at_two_deviations_and_biases_are_nought() -> None:
    head = BiaffineHead(64, 20, arc_width=100, label_width=50, dropout=0.0, learned_root=True)
    initialise(head, 3)
    for name, parameter in head.named_parameters():
        values = parameter.detach().double()
        if name.endswith("bias"):
            assert (values == 0).all()
            continue
        assert float(values.abs().max()) <= 0.04
        # A normal of 0.02 cut at two deviations has one of 0.8796 of it.
        if values.numel() > 5000:
            assert float(values.std()) == pytest.approx(0.02 * 0.8796, rel=0.03)
            assert float(values.abs().max()) > 0.039
        assert float(values.std()) > 0.01


def test_new_weights_are_a_function_of_the_seed() -> None:
    def drawn(seed: int) -> Any:
        head = BiaffineHead(6, 2, arc_width=3, label_width=2, dropout=0.0, learned_root=True)
        initialise(head, seed)
        return torch.cat([parameter.detach().reshape(-1) for parameter in head.parameters()])

    state = torch.get_rng_state()
    assert torch.equal(drawn(5), drawn(5))
    seeds = (0, 1, 5, 2**64 - 1)
    every = [drawn(seed) for seed in seeds]
    assert all(not torch.equal(a, b) for i, a in enumerate(every) for b in every[:i])
    # Modules draw where they are made; `initialise` itself leaves the common generator alone.
    torch.set_rng_state(state)
    head = BiaffineHead(6, 2, arc_width=3, label_width=2, dropout=0.0, learned_root=True)
    before = torch.get_rng_state()
    initialise(head, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_gives_scores_in_float32() -> None:
    head = a_head(learned_root=True).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = head(a_hidden().float(), {}, targets())
        labels = relation_scores(outputs, *(torch.tensor([0]) for _ in range(3)))
    assert outputs["arcs"].dtype == labels.dtype == torch.float32
    exact = head(a_hidden().float(), {}, targets())["arcs"]
    real = torch.isfinite(exact)
    assert torch.allclose(outputs["arcs"][real], exact[real], rtol=0.1, atol=0.5)
