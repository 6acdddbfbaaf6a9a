"""Where "org/name" lies: the hub's cache on this machine, or, with `huggingface_hub` installed and a revision, the hub."""

import importlib.util
import os
from pathlib import Path

SAFE = ["*.safetensors", "*.json", "vocab.txt", "merges.txt", "*.model"]  # never pickles, never code


def find(source: str | Path, revision: str = "") -> Path:
    """The directory of a model. Raises FileNotFoundError, saying where it looked and what to do."""
    if Path(source).is_dir():
        return Path(source)
    name = str(source)
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise FileNotFoundError(f"no directory {name!r}: give a model's directory, or org/name of the hub")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{name.replace('/', '--')}"
    head = cache / "refs" / (revision or "main")
    commit = head.read_text().strip() if head.is_file() else revision
    if commit and (cache / "snapshots" / commit).is_dir():
        return cache / "snapshots" / commit
    if importlib.util.find_spec("huggingface_hub") and len(revision) == 40:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=SAFE))
    raise FileNotFoundError(
        f"{name} is not in the hub cache ({cache}). To download it, pip install huggingface_hub and give the full commit "
        f"as revision=..., so that what you get cannot change"
    )
