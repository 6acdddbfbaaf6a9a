"""OpenVINO on the ONNX file beside the model: fp32, bf16, 8-bit weights with dynamic quantisation (int8), or weights and
activations in 8 bits, whose ranges are found beforehand on 300 of the texts (static)."""

import json
import os
import sys

import numpy as np
import openvino
from loop import batches, longest, loop, mean_pooled, padded
from tokenizers import Tokenizer


def make(model, setting):
    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest(model))
    read = openvino.Core().read_model(os.path.join(model, "model.onnx"))
    if setting == "int8":
        import nncf

        read = nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT8_SYM)
    elif setting == "static":
        import nncf

        with open(sys.argv[2], encoding="utf-8") as file:
            texts = json.load(file)["texts"]
        samples = [padded([tokenizer.encode(text).ids]) for text in texts[:: -(-len(texts) // 300)]]
        read = nncf.quantize(read, nncf.Dataset(samples, list), model_type=nncf.ModelType.TRANSFORMER)
    hints = {"INFERENCE_PRECISION_HINT": "f32" if setting == "fp32" else "bf16", "PERFORMANCE_HINT": "LATENCY"}
    if setting == "int8":
        hints["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "32"
    compiled = openvino.compile_model(read, "CPU", hints)

    def encode(texts):
        codes = [code.ids for code in tokenizer.encode_batch(list(texts))]
        out = None
        for rows in batches(list(map(len, codes)), 2048):
            ids, keep = padded([codes[i] for i in rows])
            vectors = mean_pooled(compiled([ids, keep])[0], keep)
            out = np.zeros((len(texts), vectors.shape[1]), np.float32) if out is None else out
            out[rows] = vectors
        return out

    return encode


loop(make)
