"""The merge architecture against what is known of it in closed form; beam search against all sentences; scores."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robust_zoo.training.transfer.logistic import logistic_path, objective
from studies.captions import beam, merge, scores
from studies.captions.text import EDGE, NOTHING, Vocabulary

SIZE, WIDTH = 6, 5
RNG = torch.Generator().manual_seed(0)
IMAGES = torch.randn(40, WIDTH, generator=RNG)
CAPTIONS = [tuple("abcdef"[i] for i in torch.randint(6, (n,), generator=RNG)) for n in [1, 2, 3, 4] * 10]
VOCABULARY = Vocabulary(tuple("abcde"))  # f is unknown
WORDS = VOCABULARY.encode(CAPTIONS)


def network(width=WIDTH, size=SIZE, seed=0, scale=1.0, **how):
    net = merge.seeded(seed, lambda: merge.Captioner(size, width, **how)).eval()
    with torch.no_grad():
        net.last.weight.mul_(scale)
    return net


def test_captions_of_one_word_are_a_multinomial_logistic_regression():
    """The image comes in as it is; the language part is frozen, so that its one state is as good as a bias."""
    labels = (IMAGES @ torch.randn(WIDTH, SIZE, generator=RNG) + 2 * torch.randn(40, SIZE, generator=RNG)).argmax(1)
    net = network(frozen=True).double()
    net.image = nn.Identity()
    net.last = nn.Linear(merge.STATE + WIDTH, SIZE).double()
    images, words = IMAGES.double(), labels[:, None]

    optimiser = torch.optim.LBFGS(net.last.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        weights = net.last.weight[:, merge.STATE :]
        value = merge.mean_surprise(net, images, words) + 0.005 * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    (head,) = logistic_path(images, labels, SIZE, [0.01])
    ours = net(images, words)[:, 0].softmax(1)
    assert torch.allclose(ours, head(images).softmax(1), atol=2e-4) and ours.max() - ours.min() > 0.5
    assert loss().item() == pytest.approx(objective(head, images, labels, 0.01).item(), abs=1e-6)


def test_an_image_of_nothing_leaves_the_language_models_probabilities():
    lm = network(0, seed=1)
    net = network(language=lm.language, seed=2)
    with torch.no_grad():
        net.image[0].bias.zero_()
        net.last.weight[:, : merge.STATE] = lm.last.weight
        net.last.bias.copy_(lm.last.bias)
    nothing = torch.zeros_like(IMAGES)
    assert torch.allclose(net(nothing, WORDS), lm(None, WORDS), atol=1e-6)
    assert not torch.allclose(net(IMAGES, WORDS), lm(None, WORDS), atol=0.01)


def test_a_gru_of_zeros_leaves_a_table_of_single_words():
    """Trained, its perplexity is the exponential of their entropy."""
    lm = network(0)
    for parameter in lm.language.parameters():
        parameter.data.zero_()
    assert not lm.language(WORDS.clamp(min=0)).any()
    lm.last.weight.requires_grad_(False)
    lm.language.requires_grad_(False)
    counts = WORDS[(WORDS != NOTHING) & (WORDS < SIZE)].bincount(minlength=SIZE)
    merge.train(lm, (None, WORDS), (None, WORDS), merge.Training(0.05, len(WORDS), 400, 50), 0)
    shares = counts / counts.sum()
    assert torch.allclose(lm.last.bias.softmax(0), shares, atol=1e-3)
    entropy = -(shares * shares.log()).sum()
    assert merge.mean_surprise(lm, None, WORDS).exp().item() == pytest.approx(entropy.exp().item(), abs=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_language_part_keeps_its_bytes(frozen):
    lm = network(0, seed=3)
    before = copy.deepcopy(lm.state_dict())
    net = network(language=lm.language, frozen=frozen)
    merge.train(net, (IMAGES, WORDS), (IMAGES, WORDS), merge.Training(epochs=2, batch=16), 0)
    kept = net.language.state_dict()
    same = [torch.equal(value, before[f"language.{name}"]) for name, value in kept.items()]
    assert all(same) if frozen else not any(same)
    assert all(torch.equal(value, before[name]) for name, value in lm.state_dict().items())
    assert not torch.equal(net.last.weight, network().last.weight)


def test_training_keeps_the_best_epoch_and_is_repeated_to_the_bit():
    found = []
    for _ in range(2):
        net = network()
        epochs = merge.train(
            net, (IMAGES[:20], WORDS[:20]), (IMAGES[20:], WORDS[20:]), merge.Training(0.02, 8, 30, 3), 1
        )
        found.append((epochs, merge.mean_surprise(net, IMAGES[20:], WORDS[20:]).item()))
    assert found[0] == found[1]
    short = network()
    merge.train(short, (IMAGES[:20], WORDS[:20]), (IMAGES[20:], WORDS[20:]), merge.Training(0.02, 8, epochs, 30), 1)
    assert 0 < epochs < 30 and merge.mean_surprise(short, IMAGES[20:], WORDS[20:]).item() == found[0][1]


def test_words_one_by_one_have_the_probability_of_the_whole():
    """Unknown words are read and not counted."""
    net = network(scale=5)
    whole = net.surprise(IMAGES, WORDS)
    for image, caption, together in zip(IMAGES, WORDS.tolist(), whole, strict=True):
        state, word = None, EDGE
        for at, following in enumerate(caption):
            if following == NOTHING:
                assert not together[at:].any()
                break
            state = net.language(torch.tensor([[word]]), state)[:, -1]
            logp = net.beside(image[None], state[:, None])[0, 0].log_softmax(0)
            assert together[at].item() == pytest.approx(-logp[following].item() if following < SIZE else 0, abs=1e-5)
            word = following
    known = (WORDS != NOTHING) & (WORDS < SIZE)
    assert merge.mean_surprise(net, IMAGES, WORDS).item() == pytest.approx(whole[known].mean().item(), rel=1e-5)


def sure(size, seed):
    """Every word changes much of what comes next."""
    net = network(size=size, seed=seed, scale=20)
    with torch.no_grad():
        net.language.embedding.weight.mul_(5)
    return net


def logp(net, image, caption):
    """log p of a whole sentence, teacher-forced."""
    return -net.surprise(image[None], torch.tensor([[*caption, EDGE]])).sum().item()


def test_a_wide_beam_finds_the_likeliest_of_all_sentences():
    """Four words, up to three in a sentence; a narrow one finds what is less likely, and says how likely."""
    every = [list(one) for n in range(4) for one in itertools.product(range(1, 5), repeat=n)]
    lengths, missed = set(), 0
    for seed in range(12):
        net, image = sure(5, seed), IMAGES[seed]
        best = max(every, key=lambda one: logp(net, image, one))
        found, score = beam.write(net, image, 1000, 3)
        assert found == best and score == pytest.approx(logp(net, image, best), abs=1e-4)
        narrow, lower = beam.write(net, image, 2, 3)
        assert lower == pytest.approx(logp(net, image, narrow), abs=1e-4) and lower <= score + 1e-4
        lengths.add(len(best))
        missed += narrow != best
    assert lengths == {0, 1, 2, 3} and missed


def test_a_beam_of_one_is_greedy():
    lengths = set()
    for seed in range(12):
        net, image = sure(SIZE, seed), IMAGES[seed]
        said, state, word = [], None, EDGE
        while len(said) < 4:
            state = net.language(torch.tensor([[word]]), state)[:, -1]
            word = net.beside(image[None], state[:, None])[0, 0].argmax().item()
            if word == EDGE:
                break
            said.append(word)
        assert beam.write(net, image, 1, 4)[0] == said
        lengths.add(len(said))
    assert {0, 1, 4} <= lengths


def test_scores_of_captions_that_are_right_wrong_and_short():
    right = [("a", "red", "car", "here"), ("a", "green", "frog", "sings")]
    assert scores.bleu(right, right) == pytest.approx([1] * 4) and scores.word_f1(right, right) == 1
    assert scores.cider(right, right) == pytest.approx(10)
    wrong = [("the", "sea"), ("the", "sea")]
    assert max(*scores.bleu(wrong, right), scores.cider(wrong, right), scores.word_f1(wrong, right)) < 1e-6
    short = [caption[:2] for caption in right]
    assert scores.bleu(short, right)[:2] == pytest.approx([math.exp(1 - 2)] * 2)
    assert scores.word_f1(short, right) == pytest.approx(2 * 2 / 6)


def test_recall_is_the_rank_of_the_own_image():
    """By an image that is told by its first word; where images do not matter, the own one comes last."""
    words = torch.tensor([[1, EDGE], [2, EDGE], [3, EDGE]])
    net = network(3, 4)
    net.image = nn.Identity()
    net.last = nn.Linear(merge.STATE + 3, 4)
    with torch.no_grad():
        net.last.weight.copy_(torch.cat((torch.zeros(4, merge.STATE), F.pad(torch.eye(3), (0, 0, 1, 0))), 1))
    assert scores.recall(net, torch.eye(3), words, 1) == 1
    assert scores.recall(net, torch.eye(3).roll(1, 0), words, 1) == 0
    assert scores.recall(net, torch.ones(3, 3), words, 2) == 0 and scores.recall(net, torch.ones(3, 3), words, 3) == 1
