"""The two files of an adapter, and which method they are of."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bertsmith.files import write_atomic
from bertsmith.hf import Config
from bertsmith.hf.peft.ia3 import IA3
from bertsmith.hf.peft.lora import LORA
from bertsmith.hf.peft.method import CONFIG, WEIGHTS, Method
from bertsmith.hf.peft.prefix import Prefix
from bertsmith.hf.peft.prompt import Prompt
from bertsmith.hf.peft.vera import VERA

METHODS: dict[str, Method] = {one.type: one for one in (LORA(), IA3(), VERA(), Prefix(), Prompt())}
# settings of all methods, of which the last four say nothing of a trained adapter
ALL = "peft_type task_type auto_mapping modules_to_save base_model_name_or_path revision inference_mode peft_version"


def read_files(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """(settings, tensors). FileNotFoundError if there is no adapter, ValueError if it is damaged or pickled."""
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no adapter of peft: it has no {CONFIG}")
    if not (folder / WEIGHTS).is_file():
        if list(folder.glob("*.bin")):
            raise ValueError(
                f"{folder} has pickled weights only, which can run code when opened: save it as safetensors"
            )
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS, "pt") as file:
            held = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{folder} is damaged: {error}; copy it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder} is damaged: {CONFIG} is no JSON object")
    return config, held


def write_files(folder: Path, config: Config, held: dict[str, Tensor]) -> None:
    """The inverse of `read_files`; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {k: v.detach().cpu().clone().contiguous() for k, v in held.items()}
    write_atomic(folder / WEIGHTS, save(held, {"format": "pt"}))
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True))


def method_of(config: Config) -> Method:
    """The method of an adapter. ValueError if there is none, or if a setting says what it does not have here."""
    kind = config.get("peft_type")
    if kind not in METHODS:
        raise ValueError(f"adapters of type {kind!r} are not read; there are: {', '.join(METHODS)}")
    method = METHODS[kind]
    known = f"{ALL} {method.settings} {method.unread}".split()
    if odd := [f"{k} {v!r:.60}" for k, v in config.items() if k not in known and v]:
        raise ValueError(f"{kind} with {', '.join(odd)} is not supported")
    return method
