"""How near two sentences are, at every precision: Spearman's correlation with people's scores, and what is lost of fp32's.

    python benchmarks/similarity.py MODEL [--set stsb] [--data FOLDER] [--out results.json]

No training: the cosine of the two vectors of the set's test pairs, beside their scores.
"""

import argparse

import numpy as np
from about import about, write
from scipy.stats import spearmanr

import bertsmith
from bertsmith import sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--set", default="stsb")
    parser.add_argument("--data", default=None)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    model, test = bertsmith.load(args.model), sets.read(args.set, args.data).test
    table = {}
    for precision in ("exact", "default", "fast"):
        left, right = (model.encode(texts, precision=precision) for texts in (test.text, test.pair))
        cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        found = float(spearmanr(cosine, [float(label) for label in test.label]).statistic)
        exact = table["exact"]["spearman"] if table else found
        table[precision] = {"spearman": found, "beyond_fp32": found - exact}
        table[precision] |= {"became": model.engine.about(precision)["precision"]}
    write(about() | {"set": args.set, "pairs": len(test), "table": table}, args.out)


if __name__ == "__main__":
    main()
