"""bertsmith: pre-train, fine-tune, tune with few parameters, compress, study and serve BERT-line text encoders.

    import bertsmith
    model = bertsmith.load("my-bert")                    # a directory: ours or Hugging Face's
    model.fill("The capital of France is [MASK].")
    model.encode(["two sentences", "to embed"])          # float32 [N, D], in the order given
    tuned = bertsmith.finetune(model, "sentiment.csv")   # then tuned.predict([...]), tuned.save(dir)

Names are resolved on first use, so that `import bertsmith` does not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertsmith.bulk import encode_file as encode_file
    from bertsmith.calibration import calibrate as calibrate
    from bertsmith.estimators import BertClassifier as BertClassifier
    from bertsmith.estimators import BertRegressor as BertRegressor
    from bertsmith.estimators import BertTagger as BertTagger
    from bertsmith.model import Model as Model
    from bertsmith.model import load as load
    from bertsmith.run import Run as Run
    from bertsmith.run import Stage as Stage
    from bertsmith.tuning import finetune as finetune

__version__ = "0.1.0"
__all__ = [
    "BertClassifier",
    "BertRegressor",
    "BertTagger",
    "Model",
    "Run",
    "Stage",
    "calibrate",
    "encode_file",
    "finetune",
    "load",
]

_HOME = {"Model": "model", "load": "model", "finetune": "tuning", "Run": "run", "Stage": "run"}
_HOME |= {name: "estimators" for name in ("BertClassifier", "BertRegressor", "BertTagger")} | {
    "calibrate": "calibration",
    "encode_file": "bulk",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"bertsmith has no {name!r}; it has {', '.join(__all__)}")
    import importlib

    value = getattr(importlib.import_module(f"bertsmith.{_HOME[name]}"), name)
    globals()[name] = value
    return value
