"""`python to_onnx.py MODEL OUT.onnx`: a transformers encoder as the other runtimes read it (ids, mask -> states)."""

import sys

import torch
from transformers import AutoModel


class States(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask):
        return self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


inner = AutoModel.from_pretrained(sys.argv[1], attn_implementation="eager").eval()
example = (torch.ones(2, 9, dtype=torch.int64), torch.ones(2, 9, dtype=torch.int64))
axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask", "states")}
torch.onnx.export(
    States(inner),
    example,
    sys.argv[2],
    input_names=list(axes)[:2],
    output_names=["states"],
    dynamic_axes=axes,
    dynamo=False,
)
