"""RoBERTa's kin in use: their own special tokens, positions that begin behind the padding id, one token type.

And what the parity tests of DistilBERT and ERNIE rest on, said by itself.
"""

import json

import pytest
import torch
from golden.make import tokenizer as bert_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import bertsmith
from bertsmith.head import head as heads
from bertsmith.hf.bert import bert_encoder
from bertsmith.hf.distilbert import FAMILY as DISTILBERT
from bertsmith.hf.roberta import roberta_encoder
from bertsmith.layout import Layout
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm

SIZE, LENGTH = 30, 9


def own_tokenizer():
    """Named and numbered as RoBERTa's: <s> 0, <pad> 1, </s> 2."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(SIZE - 5)), "<mask>"]
    tok = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    tok.add_special_tokens([w for w in words if w.startswith("<")])
    return tok


def model(tokenizer, pad=1, length=LENGTH, types=1):
    spec = roberta_encoder(2, 16, 2, SIZE, length=length, pad=pad).replace("embedding.types", types)
    head = heads("masked_lm", norm=norm("layer", eps=1e-5))
    torch.manual_seed(0)
    encoder = spec.build()
    bundle = Bundle(encoder, head.build(encoder, 0))
    for p in bundle.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return Model(spec, bundle, tokenizer, head, max_length=length)


def test_it_fills_with_its_own_mask_and_opens_elsewhere_with_its_own_special_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = model(own_tokenizer())
    ours.save(tmp_path, stock="roberta")
    again = bertsmith.load(tmp_path)
    filled = again.fill("w1 <mask> w2")
    assert "<mask>" not in filled.text and filled.text.split()[1] == filled.guesses[0][0].token
    with pytest.raises(ValueError, match="has no <mask>"):
        again.fill("w1 w2")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (words.pad_token, words.pad_token_id, words.mask_token_id, len(words)) == ("<pad>", 1, SIZE - 1, SIZE)
    given = words(["w1 w2 w3", "w4"], padding=True, return_tensors="pt")
    theirs = transformers.AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    want = theirs(**given).last_hidden_state
    got = ours.hidden(given["input_ids"], given["attention_mask"])
    real = given["attention_mask"].bool()
    torch.testing.assert_close(got[real], want[real], rtol=1e-4, atol=1e-5)  # float32, in another order


def test_the_longest_text_is_what_the_positions_behind_the_padding_id_hold(tmp_path):
    model(own_tokenizer()).save(tmp_path, stock="roberta")
    (tmp_path / "bertsmith.json").unlink()
    (tmp_path / "sentence_bert_config.json").unlink()
    opened = bertsmith.load(tmp_path)
    assert opened.spec.get("embedding.position.length") == LENGTH + 2 and opened.max_length == LENGTH
    assert opened.encode("w1 " * 50).shape == (16,) and opened.cut == 1


def test_a_tokenizer_that_pads_otherwise_makes_another_roberta_and_is_refused(tmp_path):
    odd = model(bert_tokenizer(SIZE))  # pads with 0; the encoder counts from 1
    with pytest.raises(ValueError, match="roberta cannot hold embedding.position.offset = 2"):
        odd.save(tmp_path, stock="roberta")
    odd.save(tmp_path)
    assert json.loads((tmp_path / "bertsmith.json").read_text())["names"] == "bertsmith"
    model(bert_tokenizer(SIZE), pad=0).save(tmp_path, stock="roberta")
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 0


def test_with_one_token_type_pairs_need_no_second():
    def holds(one):
        (_, token_BT, layout), *_ = one.tokens(["w1 w2"], ["w3"])
        assert layout.type_BT.amax() == 1
        with torch.inference_mode():
            plain = one.encoder(token_BT, Layout.padded(layout.real_BT.long()))
            return torch.equal(one.encoder(token_BT, layout), plain)

    assert holds(model(bert_tokenizer(SIZE), pad=0))
    assert not holds(model(bert_tokenizer(SIZE), pad=0, types=2))


@pytest.mark.parametrize("types", [1, 2])
def test_token_types_are_asked_for_where_there_are_some(types, tmp_path):
    """A stock class without them, or with one, must not be handed the 1 of a second sentence."""
    made = model(bert_tokenizer(SIZE), pad=0, types=types)
    made.save(tmp_path, stock="roberta")
    names = json.loads((tmp_path / "tokenizer_config.json").read_text())["model_input_names"]
    assert ("token_type_ids" in names) == (types == 2)
    assert {"input_ids", "attention_mask"} <= set(names)


def test_distilbert_drops_nothing_behind_attention():
    sizes = {"n_layers": 1, "dim": 8, "n_heads": 2, "vocab_size": 20, "hidden_dim": 8, "max_position_embeddings": 8}
    spec = DISTILBERT.spec(sizes | {"activation": "gelu", "dropout": 0.3, "attention_dropout": 0.0})

    def holds(spec):
        layer = spec.build().train().layers[0]
        x_BTD, layout = torch.randn(2, 5, 8), Layout.padded(torch.ones(2, 5))
        attend = lambda: layer.mixer_residual(x_BTD, lambda x: layer.mixer(x, layout), layout)  # noqa: E731
        feed = lambda: layer.ffn_residual(x_BTD, lambda x: layer.ffn(x, layout), layout)  # noqa: E731
        return torch.equal(attend(), attend()) and not torch.equal(feed(), feed())

    assert holds(spec)
    assert not holds(spec.replace("blocks.0.residual.dropout", 0.3))  # as in BERT


def test_a_task_is_a_fact_of_each_token_and_0_where_none_is_said():
    plain = bert_encoder(2, 16, 2, SIZE)

    def holds(spec):
        torch.manual_seed(0)
        encoder, token_BT = spec.build().eval(), torch.arange(8)[None]

        def states(task_BT):
            layout = Layout.padded(torch.ones(1, 8))
            layout.extra.update({} if task_BT is None else {"task": task_BT})
            return encoder(token_BT, layout)

        none, other = torch.zeros(1, 8, dtype=torch.long), torch.tensor([[0, 0, 0, 2, 2, 2, 2, 2]])
        moved = (states(other) - states(None)).abs().amax(-1)
        return torch.equal(states(none), states(None)) and bool(moved.min() > 1e-6)

    assert holds(plain.replace("embedding.facts", {"task": 3}))
    assert not holds(plain)


def test_an_encoder_without_a_table_of_places_reads_as_far_as_its_class(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.RoFormerConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                         intermediate_size=24, max_position_embeddings=48)  # fmt: skip
    transformers.RoFormerModel(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(55))])
    )
    assert bertsmith.load(tmp_path).max_length == 48
