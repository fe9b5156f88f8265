"""What the learnt locator sees of answers."""

from __future__ import annotations

import torch

from approxifer_torchserve.codes.locators.features import MAX_COMPONENTS, Relations, Traits

ROWS = 4000


def clean(features: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(features, features, generator=generator)
    return 1.0 + torch.randn(ROWS, features, generator=generator) @ mixed


def rarity(traits: Traits, answers: torch.Tensor) -> torch.Tensor:
    return traits(answers)[..., -1]


def test_elements_smaller_than_honest_ones_are_rare():
    answers = clean()
    traits = Traits.fit(answers)
    usual = rarity(traits, answers)
    # Five elements, each below its limit in 1 % of the answers.
    assert 0.03 < (usual > 0).double().mean() < 0.07
    tiny = answers.clone()
    tiny[:, 2] /= 2.0**16
    assert (rarity(traits, tiny) > usual.quantile(0.999)).double().mean() > 0.95
    # Larger elements are not rare in this sense.
    assert rarity(traits, answers * 1e6).max() == 0


def test_zeros_that_a_model_often_gives_are_not_rare():
    answers = torch.relu(clean())
    assert (answers == 0).double().mean() > 0.1
    traits = Traits.fit(answers)
    assert rarity(traits, answers).max() == 0


def triples(features: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first, second = clean(features), clean(features).flip(0)
    noise = 0.3 * torch.randn(ROWS, features, generator=torch.manual_seed(1))
    return first, second, 0.6 * first + 0.4 * second + noise


def test_one_wrong_element_stands_out_in_its_own_error():
    first, second, mixture = triples(5)
    own, mixed = Traits.fit(torch.cat([first, second])), Traits.fit(mixture)
    whitened = torch.stack(
        [own.whitened(first), own.whitened(second), mixed.whitened(mixture)], dim=1
    )
    relations = Relations.fit(whitened, own, mixed)
    error = whitened.flatten(1) @ relations.element
    assert relations(whitened).shape == (ROWS, relations.width)
    # In standard deviations, the shrinkage apart.
    assert ((error.std(dim=0) > 0.9) & (error.std(dim=0) < 1.05)).all()
    wrong = mixture.clone()
    wrong[:, 3] += 3.0
    moved = torch.stack([whitened[:, 0], whitened[:, 1], mixed.whitened(wrong)], dim=1).flatten(1)
    change = (moved @ relations.element - error).mean(dim=0)
    assert change.abs().argmax() == 2 * 5 + 3
    assert change[2 * 5 + 3] > 4


def test_long_answers_are_seen_along_their_components_only():
    first, second, mixture = triples(MAX_COMPONENTS + 8)
    own, mixed = Traits.fit(torch.cat([first, second])), Traits.fit(mixture)
    whitened = torch.stack(
        [own.whitened(first), own.whitened(second), mixed.whitened(mixture)], dim=1
    )
    relations = Relations.fit(whitened, own, mixed)
    assert relations.element.shape == (3 * MAX_COMPONENTS, 0)
    assert relations(whitened).shape == (ROWS, relations.width)
    assert own(first).shape == (ROWS, own.width)
