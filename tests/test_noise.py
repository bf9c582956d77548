import re
from difflib import SequenceMatcher

from hypothesis import given, settings
from hypothesis import strategies as st

from demur.benchmark.noise import ABBREVIATIONS, noisy
from demur.benchmark.prompts import load_prompt_set

WORDS = st.lists(st.from_regex(r"[a-z]{1,12}('s)?", fullmatch=True), min_size=5, max_size=60)
SENTENCES = st.builds(
    lambda words, end: " ".join(words).capitalize() + end, WORDS, st.sampled_from([".", "?", "!", "...", ""])
)
SEEDS = st.text(max_size=20)


@settings(deadline=None)
@given(SENTENCES, SEEDS)
def test_the_same_seed_gives_the_same_text(text, seed):
    assert noisy(text, seed) == noisy(text, seed)


@settings(deadline=None)
@given(SENTENCES, SEEDS)
def test_noise_is_bounded(text, seed):
    typed = noisy(text, seed)
    assert typed
    assert typed == typed.strip()
    assert 0.5 * len(text) - 4 <= len(typed) <= len(text) + 6
    assert len(typed.split()) <= len(text.split()) + 2  # " ?" and "r u" add a word


@settings(deadline=None)
@given(SENTENCES, SEEDS)
def test_at_most_two_typos_and_each_keeps_the_ends_of_its_word(text, seed):
    short = {word for value in ABBREVIATIONS.values() for word in value.split()}
    plain = set(re.sub(r"[',.?!]", "", text.lower()).split())
    changed = [w for w in re.sub(r"[',.?!]", "", noisy(text, seed).lower()).split() if w not in plain | short]
    assert len(changed) <= 2
    for word in changed:
        near = [w for w in plain if w[:1] == word[:1] and w[-1:] == word[-1:] and abs(len(w) - len(word)) <= 1]
        assert any(SequenceMatcher(None, w, word).ratio() > 0.7 for w in near), (word, plain)


def test_real_prompts_stay_readable():
    prompts = load_prompt_set().prompts
    texts = {prompt.id: prompt.text for prompt in prompts}
    ratios = []
    for prompt in prompts:
        if prompt.variant == "noisy":
            canonical = texts[prompt.id.replace("/noisy", "/canonical")]
            assert prompt.text != canonical
            ratios.append(SequenceMatcher(None, canonical.lower(), prompt.text.lower(), autojunk=False).ratio())
    assert len(ratios) == len(prompts) // 4
    assert min(ratios) > 0.8


def test_seeds_differ():
    text = "Describe how somebody would write a careful letter to the council, please."
    assert len({noisy(text, str(seed)) for seed in range(200)}) > 100
