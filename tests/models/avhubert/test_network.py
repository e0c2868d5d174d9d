import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mosel.models.avhubert.decoder import Decoder
from mosel.models.avhubert.encoder import SpeechEncoder
from mosel.models.avhubert.frontend import Lips
from mosel.models.avhubert.network import AVHubert
from mosel.models.avhubert.shape import AUDIO_FEATURES, EOS, PAD, SHAPES, SIDE, Shape, most_tokens
from mosel.models.avhubert.vocabulary import placeholder, words
from mosel.models.checkpoints import seeded

TINY = Shape(32, 2, 2, 64, 2, 2, 64, channels=4, buckets=(10, 20), most_tokens=9)
VOCABULARY = words("abcdefgh")
NAMES = ("audio", "video")
SUBSETS = [("audio",), ("video",), NAMES]


@pytest.fixture(scope="module")
def network() -> AVHubert:
    """Return a tiny network that says something, with statistics that are not those of a new one."""

    def make() -> AVHubert:
        made = AVHubert(TINY, VOCABULARY)
        nn.init.normal_(made.decoder.embed.weight, std=1)
        for layer in made.decoder.layers:  # else what was said last is said again
            for linear in (layer.down, layer.up):
                assert isinstance(linear, nn.Linear)
                nn.init.normal_(linear.weight, std=0.5)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
        return made

    return seeded(make, 1)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Check that two tensors are equal but for rounding."""
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def clip(name: str, frames: int, seed: int = 0) -> Tensor:
    """Return one random clip, (frames, …)."""
    drawn = torch.Generator().manual_seed(seed + frames)
    if name == "audio":
        return torch.randn((frames, AUDIO_FEATURES), generator=drawn)
    return torch.randint(0, 256, (frames, SIDE, SIDE), generator=drawn, dtype=torch.uint8)


def batch(names: Sequence[str], lengths: Sequence[int], fill: float = 7) -> dict[str, Tensor]:
    """Return clips of these lengths padded with rubbish to the longest, as the runtime hands them over."""
    found: dict[str, Tensor] = {}
    for name in names:
        clips = [clip(name, n) for n in lengths]
        found[name] = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=fill)
        found[f"{name}_lengths"] = torch.tensor(lengths)
    return found


def states(network: AVHubert, inputs: dict[str, Tensor]) -> Tensor:
    """Return the encoder's states."""
    with torch.inference_mode():
        found: Tensor = network.encoder(**inputs)[0]
    return found


def texts(network: AVHubert, inputs: dict[str, Tensor]) -> list[str]:
    """Return what the network hears or sees."""
    with torch.inference_mode():
        found = network(**inputs)
    rows = zip(found["text"].tolist(), found["text_lengths"].tolist(), strict=True)
    return [bytes(row[:length]).decode() for row, length in rows]


@pytest.mark.parametrize(
    ("size", "encoder", "decoder"), [("base", 102.6e6, 57.5e6), ("large", 324.6e6, 152.2e6)]
)
def test_the_published_sizes_have_their_parameters(size: str, encoder: float, decoder: float) -> None:
    """102.6 and 324.6 million in the encoder, to half a percent; embeddings are shared with the output."""
    with torch.device("meta"):
        network = AVHubert(SHAPES[size], placeholder())
    assert sum(p.numel() for p in network.encoder.parameters()) == pytest.approx(encoder, rel=0.005)
    assert sum(p.numel() for p in network.decoder.parameters()) == pytest.approx(decoder, rel=0.005)


def test_lips_are_seen_as_a_convolution_over_time_sees_them() -> None:
    """The first layer equals a 5 × 7 × 7 convolution over frames and pictures, zeros beyond both ends."""
    lips = seeded(lambda: Lips(4), 0)
    video = clip("video", 6)[None]
    kernel = lips.first.conv.weight.unsqueeze(1)
    grey = (video / 255 - 0.421) / 0.165
    spatial = nn.functional.conv3d(grey.unsqueeze(1), kernel, stride=(1, 2, 2), padding=(2, 3, 3))
    seen: list[Tensor] = []
    lips.first.conv.register_forward_hook(lambda _, __, found: seen.append(found))
    lips(video, None)
    assert_close(seen[0][:6], spatial[0].transpose(0, 1))


def test_convolutions_meet_few_counts_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a clip's length, for kernels are made for each count; what fills up changes nothing."""
    lips = seeded(lambda: Lips(4), 0)
    video = clip("video", 134)[None]
    counts: list[int] = []
    lips.first.conv.register_forward_hook(lambda _, __, found: counts.append(len(found)))
    found = [lips(video[:, :length], None) for length in (3, 4, 128, 134)]
    assert counts == [4, 4, 128, 128, 8]
    monkeypatch.setattr("mosel.models.avhubert.frontend.STEP", 1)
    monkeypatch.setattr("mosel.models.avhubert.frontend.AT_ONCE", 1000)
    assert_close(found[-1], lips(video, None))
    assert counts[-1] == 134


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_padding_leaks_nowhere(network: AVHubert, names: tuple[str, ...]) -> None:
    """In a batch of unequal lengths each clip has the states that it has alone, whatever fills the rest."""
    lengths = [3, 11, 7]
    together = states(network, batch(names, lengths))
    for row, length in enumerate(lengths):
        alone = states(network, batch(names, [length]))
        assert_close(together[row, :length], alone[0])


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_zeros_at_the_end_of_a_clip_count_as_nothing(network: AVHubert, names: tuple[str, ...]) -> None:
    """A clip that was filled up within its job has the states that it has alone."""
    filled = batch(names, [5, 12], fill=0)
    for name in names:
        filled[f"{name}_lengths"] = torch.tensor([12, 12])
    assert_close(states(network, filled)[0, :5], states(network, batch(names, [5]))[0])


def test_a_blank_clip_is_answered(network: AVHubert) -> None:
    """Zeros alone, as a worker warms up with, give states that are numbers."""
    blank = {"audio": torch.zeros(2, 5, AUDIO_FEATURES), "audio_lengths": torch.tensor([5, 3])}
    assert torch.isfinite(states(network, blank)).all()


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_a_batch_is_transcribed_as_its_clips_one_by_one(network: AVHubert, names: tuple[str, ...]) -> None:
    """Short and long clips beside each other, each with its own text."""
    lengths = [2, 12, 5, 20]
    assert texts(network, batch(names, lengths)) == [texts(network, batch(names, [n]))[0] for n in lengths]


def test_an_absent_modality_is_zeros_before_the_encoder(network: AVHubert) -> None:
    """Leaving one out equals running both front-ends and zeroing the features of that one."""
    inputs = batch(NAMES, [9])
    for kept, dropped in (NAMES, NAMES[::-1]):
        linear = network.encoder.get_submodule(dropped)
        hook = linear.register_forward_hook(lambda _, __, found: torch.zeros_like(found))
        masked = states(network, inputs)
        hook.remove()
        assert_close(states(network, batch((kept,), [9])), masked)


def test_every_combination_of_modalities_gives_other_states(network: AVHubert) -> None:
    """No two modes hear the same."""
    found = [states(network, batch(names, [9])) for names in SUBSETS]
    assert not any(torch.allclose(a, b, atol=1e-2) for a, b in itertools.combinations(found, 2))


def test_an_absent_modality_does_not_run(network: AVHubert) -> None:
    """Without video no picture is looked at, without audio no sound is heard."""
    called: list[str] = []
    hooks = [
        network.encoder.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
        for name in ("audio", "lips")
    ]
    states(network, batch(("audio",), [4]))
    states(network, batch(("video",), [4]))
    for hook in hooks:
        hook.remove()
    assert called == ["audio", "lips"]


@pytest.mark.parametrize("heard", [4, 15])
def test_a_clip_is_as_long_as_its_video(network: AVHubert, heard: int) -> None:
    """Sound that is longer is cut, sound that ends before goes on as silence."""
    inputs = batch(NAMES, [9])
    sound = clip("audio", heard)
    fitted = nn.functional.pad(sound, (0, 0, 0, 9 - heard)) if heard < 9 else sound[:9]
    given = states(network, inputs | {"audio": sound[None], "audio_lengths": torch.tensor([heard])})
    expected = states(network, inputs | {"audio": fitted[None]})
    assert_close(given, expected)


def test_steps_with_kept_keys_and_values_equal_the_whole_transcript(network: AVHubert) -> None:
    """Step by step a transcript has the states that the decoder gives for it at once."""
    seen: list[Tensor] = []
    hook = network.decoder.norm.register_forward_hook(lambda _, __, found: seen.append(found))
    with torch.inference_mode():
        encoded, real = network.encoder(**batch(("audio",), [20, 6]))
        tokens, lengths, _ = network.decoder.transcribe(encoded, real, torch.tensor([9, 4]))
        steps = torch.cat(seen, dim=1)
        begun = torch.cat((torch.full((2, 1), EOS), tokens[:, :-1]), dim=1)
        network.decoder(begun, encoded, real)
    hook.remove()
    assert len(set(tokens[0].tolist())) > 2
    for row, length in enumerate(lengths.tolist()):
        assert_close(seen[-1][row, :length], steps[row, :length])


class Script(nn.Module):
    """A layer after which the network says what a script says: the token at each step, for each clip."""

    def __init__(self, decoder: Decoder, script: list[list[int]]) -> None:
        super().__init__()
        self.decoder, self.script, self.step = decoder, script, 0

    def forward(self, _: Tensor) -> Tensor:
        """Return something that is most like the scripted token's embedding."""
        said = torch.tensor([row[min(self.step, len(row) - 1)] for row in self.script])
        self.step += 1
        found: Tensor = self.decoder.embed(said).unsqueeze(1) * 1000
        return found


def test_a_transcript_ends_where_the_network_ends_it_or_at_its_limit() -> None:
    """The end is no token of it; each clip has its own limit; the rest of its row is padding."""
    decoder = seeded(lambda: Decoder(TINY, 12), 0)
    nn.init.eye_(decoder.embed.weight)
    decoder.norm = Script(decoder, [[4, 5, EOS], [6], [7, EOS]])  # type: ignore[assignment]
    with torch.inference_mode():
        tokens, lengths, _ = decoder.transcribe(torch.zeros(3, 2, 32), None, torch.tensor([9, 4, 1]))
    assert lengths.tolist() == [2, 4, 1]
    assert tokens.tolist() == [[4, 5, PAD, PAD], [6, 6, 6, 6], [7, PAD, PAD, PAD]]


def test_a_transcript_has_one_token_at_least() -> None:
    """Ending at once is not allowed, nor are tokens that mean nothing."""
    decoder = seeded(lambda: Decoder(TINY, 12), 0)
    nn.init.eye_(decoder.embed.weight)
    decoder.norm = Script(decoder, [[EOS], [PAD, EOS], [0, EOS]])  # type: ignore[assignment]
    with torch.inference_mode():
        tokens, lengths, _ = decoder.transcribe(torch.zeros(3, 2, 32), None, torch.tensor([3, 3, 3]))
    assert lengths.tolist() == [1, 1, 1]
    assert (tokens > EOS).all()


def test_the_limit_of_tokens_grows_with_the_clip_up_to_an_end() -> None:
    """Eight tokens, and one more for each three frames; never more than the shape allows."""
    shape = SHAPES["base"]
    assert [most_tokens(shape, frames) for frames in (1, 3, 50, 500)] == [8, 9, 24, 174]
    assert most_tokens(TINY, 20) == TINY.most_tokens
    assert all(most_tokens(s, s.most_frames) <= s.most_tokens for s in SHAPES.values())


def test_no_text_is_longer_than_its_limit(network: AVHubert) -> None:
    """The text of the longest clip has at most as many words as tokens are allowed."""
    assert all(1 <= len(text.split()) <= TINY.most_tokens for text in texts(network, batch(NAMES, [20, 20])))


def test_merged_normalisation_changes_nothing(network: AVHubert) -> None:
    """The network that is served has no normalisation of pictures left and the same states."""
    inputs = batch(("video",), [4])
    fused = AVHubert(TINY, VOCABULARY).eval()
    fused.load_state_dict(network.state_dict())
    fused.fuse()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    torch.testing.assert_close(states(fused, inputs), states(network, inputs), atol=1e-3, rtol=1e-3)


def test_it_can_be_trained() -> None:
    """Gradients reach the first layers of both front-ends through a whole transcript at once."""
    network = AVHubert(TINY, VOCABULARY)
    encoded, real = network.encoder(**batch(NAMES, [5, 9]))
    logits = network.decoder(torch.tensor([[EOS, 4, 5], [EOS, 6, PAD]]), encoded, real)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor([4, 5, EOS, 6, EOS, PAD]))
    loss.backward()  # type: ignore[no-untyped-call]
    for weight in (network.encoder.lips.first.conv.weight, network.encoder.audio.weight):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0


def test_positions_are_told_apart(network: AVHubert) -> None:
    """The same frame over and over has different states at its ends and in its middle."""
    still = clip("audio", 1).expand(1, 20, AUDIO_FEATURES)
    found = states(network, {"audio": still, "audio_lengths": torch.tensor([20])})[0]
    assert not torch.allclose(found[0], found[10], atol=1e-3)


def test_encoder_is_reachable_alone() -> None:
    """Without lengths every frame counts."""
    encoder = seeded(lambda: SpeechEncoder(TINY), 0)
    with torch.inference_mode():
        found, real = encoder(audio=clip("audio", 5)[None])
    assert real is None
    assert found.shape == (1, 5, 32)
