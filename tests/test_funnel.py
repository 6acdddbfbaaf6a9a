"""The funnel: what a layer is given after each halving, and what the decoder is for."""

import json

import numpy as np
import pytest
import torch
from toy import build, documents, example, packed, padded, states

from bertsmith import hf, tap
from bertsmith.layout import Layout
from bertsmith.linear import load_tensors
from bertsmith.spec import Spec

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order


def funnel(**more):
    return Spec.from_dict(example("encoder", "funnel").to_dict() | more)


def plain():
    """The same layers, with nothing pooled between them."""
    given = funnel().to_dict()
    sizes, decoder = given.pop("sizes"), given.pop("decoder")
    return Spec.from_dict(given | {"kind": "encoder/stack", "depth": sum(sizes) + decoder})


def tokens_in_layers(spec, length):
    """How many tokens each layer turns into as many states; those that count."""
    encoder, found = build(spec), []
    token, layout = padded(documents((length,)))
    with tap.see(encoder, "layers.*", lambda path, given, out: found.append(int(given[1].real_BT.sum()))):
        encoder(token, layout)
    return found


def test_every_block_but_the_first_has_half_the_tokens():
    """Dai et al. 2020, section 2.2; the last token of an even number is left out, so that [CLS] and pairs go up."""

    def holds(spec):
        return [tokens_in_layers(spec, n) for n in (16, 13, 2)] == [[16, 8, 4, 16], [13, 7, 4, 13], [2, 2, 2, 2]]

    assert holds(funnel()) and not holds(plain())


@pytest.mark.parametrize("length", [3, 6, 11])
def test_a_pair_is_the_mean_of_its_tokens_and_the_first_token_stays(length):
    encoder, given = build(funnel()), {}
    token, layout = padded(documents((length,)))

    def listen(path, inputs, out):
        given[path] = inputs

    with tap.see(encoder, "layers.*", listen):
        encoder(token, layout)
    x, _, (source, to) = given["layers.1"]
    h = source[0].detach().numpy()
    rest = h[1 : length - 1]
    want = [h[0]] + [np.mean(rest[i : i + 2], axis=0) for i in range(0, len(rest), 2)]
    count = int(given["layers.1"][1].real_BT.sum())
    assert count == len(want)
    np.testing.assert_allclose(x[0, :count].detach().numpy(), np.stack(want), rtol=1e-5, atol=1e-6)
    places = given["layers.1"][1].position_BT[0, :count].tolist()
    assert places == [0, *range(1, length - 1, 2)] and int(to.real_BT.sum()) == length


def test_the_decoder_gives_each_token_a_state_of_its_own():
    def holds(spec):
        """Whether tokens 1 to 4, one group after two halvings, differ."""
        encoder = build(spec)
        token, layout = padded(documents((16,)))
        x = encoder(token, layout)[0, 1:5]
        return bool((x - x[0]).abs().max() > 1e-2)

    assert holds(funnel()) and not holds(funnel(decoder=0))


def test_documents_of_all_lengths_are_halved_each_by_itself():
    """Even and odd, and too short to be halved, side by side in a row and alone."""
    encoder, docs = build(funnel()), documents((1, 2, 3, 4, 5, 8, 9, 16))
    together = packed(docs, [[0, 3, 7], [1, 2, 4, 5], [6]], 24)
    x = states(encoder(*together), together[1])
    alone = [(encoder(*one), one[1]) for one in (padded([docs[i]]) for i in (0, 3, 7, 1, 2, 4, 5, 6))]
    torch.testing.assert_close(x, torch.cat([states(*one) for one in alone]), **CLOSE)


def test_their_factorized_attention_is_the_same_function(tmp_path):
    """A checkpoint that says attention_type "factorized" opens like one that says "relative_shift"."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.FunnelConfig(
        vocab_size=50, block_sizes=[1, 1, 1], d_model=32, n_head=4, d_head=8, d_inner=48, attention_type="factorized"
    )
    theirs = transformers.FunnelModel(config).eval()
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn(p.shape)
    said = json.loads(theirs.config.to_json_string()) | {"architectures": ["FunnelModel"]}
    spec, _, held = hf.read(said, dict(theirs.state_dict()))
    encoder = spec.build().eval()
    load_tensors(encoder, {k.removeprefix("encoder."): v for k, v in held.items()})
    token = torch.randint(5, 50, (2, 14))
    with torch.no_grad():
        a, b = theirs(token).last_hidden_state, encoder(token, Layout.padded(torch.ones_like(token)))
    torch.testing.assert_close(b, a, rtol=1e-4, atol=2e-5)
