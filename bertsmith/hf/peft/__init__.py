"""`peft`'s adapter directories, adapter_config.json and adapter_model.safetensors: read onto a model, and written from one.

    paths = read("adapter", model)     # its edits or grafts hang on model.encoder, with their tensors
    write(model, "adapter")            # the same back: `peft` opens it on the stock class

A method is one file of this folder: LORA is edit/lora, or edit/dora where it says use_dora; IA3 edit/ia3; VERA edit/vera;
PREFIX_TUNING graft/p_tuning; PROMPT_TUNING graft/prompt. `modules_to_save`, the classifier for one, are the head.

Layers have the names of the stock class, by the weight tables of `bertsmith.hf`. Where it has one layer for several of ours
(q, k and v in ModernBERT) each of ours gets its rows; they train apart from then on, and are written as one again.
What says how an adapter starts or trains (its dropout, its initialisation) says nothing of a trained one: it is not read.
"""

from bertsmith.hf.peft.method import CONFIG, WEIGHTS
from bertsmith.hf.peft.reading import read
from bertsmith.hf.peft.stock import TASKS
from bertsmith.hf.peft.writing import write

__all__ = ["CONFIG", "TASKS", "WEIGHTS", "read", "write"]
