"""bertsmith, at the precision that SETTING names."""

from loop import loop

import bertsmith


def make(model, setting):
    opened = bertsmith.load(model)
    return lambda texts: opened.encode(texts, normalize=True, precision=setting)


loop(make)
