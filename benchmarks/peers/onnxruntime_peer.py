"""ONNX Runtime on the ONNX file beside the model: fp32, or dynamic 8-bit quantisation (int8)."""

import os
import tempfile

import numpy as np
import onnxruntime
from loop import batches, longest, loop, mean_pooled, padded
from tokenizers import Tokenizer


def make(model, setting):
    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest(model))
    path = os.path.join(model, "model.onnx")
    if setting == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        small = os.path.join(tempfile.mkdtemp(), "int8.onnx")
        quantize_dynamic(path, small, weight_type=QuantType.QInt8)
        path = small
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def encode(texts):
        codes = [code.ids for code in tokenizer.encode_batch(list(texts))]
        out = None
        for rows in batches(list(map(len, codes)), 2048):
            ids, keep = padded([codes[i] for i in rows])
            states = session.run(None, {"input_ids": ids, "attention_mask": keep})[0]
            vectors = mean_pooled(states, keep)
            out = np.zeros((len(texts), vectors.shape[1]), np.float32) if out is None else out
            out[rows] = vectors
        return out

    return encode


loop(make)
