"""OpenVINO on the ONNX file beside the model: fp32, bf16, or 8-bit weights with dynamic quantisation (int8)."""

import os

import numpy as np
import openvino
from loop import batches, loop, mean_pooled, padded
from tokenizers import Tokenizer


def make(model, setting):
    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    read = openvino.Core().read_model(os.path.join(model, "model.onnx"))
    if setting == "int8":
        import nncf

        read = nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT8_SYM)
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
