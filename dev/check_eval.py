"""Compare dev/eval with the libraries whose definitions it follows. For maintainers: nobody needs this to use it.

    python dev/check_eval.py metrics > dev/metrics.txt         what scikit-learn and SciPy make of some cases, for
                                                               dev/test
    python dev/check_eval.py scores MODEL HF TASK…             our scores of a model beside mteb's of the same
                                                               model, exported to the folder HF

Needs numpy, scipy, scikit-learn; for scores also mteb and sentence-transformers.
"""
import csv
import subprocess
import sys

import numpy as np


def metrics():
    """Cases with ties, one class that is never predicted, and few and many examples."""
    from scipy import stats
    from sklearn import metrics as sk

    rng = np.random.default_rng(1)
    labels = {
        "accuracy": sk.accuracy_score,
        "macro F1": lambda g, p: sk.f1_score(g, p, average="macro"),
        "Matthews": sk.matthews_corrcoef,
        "V-measure": sk.v_measure_score,
    }
    scores = {
        "Pearson": lambda g, p: stats.pearsonr(g, p)[0],
        "Spearman": lambda g, p: stats.spearmanr(g, p)[0],
    }

    def put(name, gold, pred, value):
        print(name + "\t" + repr(float(value)))
        print(*gold)
        print(*pred)

    for n, k in ((5, 2), (12, 3), (40, 2), (60, 7), (200, 20)):
        gold = rng.integers(0, k, n)
        pred = np.where(rng.random(n) < 0.6, gold, rng.integers(0, max(1, k - 1), n))
        for name, f in labels.items():
            put(name, gold, pred, f(gold, pred))
        binary, guess = (gold == 1).astype(int), (pred == 1).astype(int)
        put("F1", binary, guess, sk.f1_score(binary, guess))
        for digits in (1, 6):  # with many ties and with few
            x = np.round(rng.normal(size=n), digits)
            y = np.round(x + rng.normal(size=n), digits)
            for name, f in scores.items():
                put(name, x, y, f(x, y))
            ap = np.round(binary + rng.normal(size=n), digits)
            put("average precision", binary, ap, sk.average_precision_score(binary, ap))


def read_tsv(path):
    with open(path, encoding="utf-8") as f:
        return list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))


def scores(model, hf, tasks):
    """A task's scores by mteb's own evaluators on the vectors of the exported model, beside ours."""
    import os
    import tempfile

    from scipy import stats
    from sentence_transformers import SentenceTransformer
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn import metrics as sk

    encoder = SentenceTransformer(hf)
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["dev/eval", model, *tasks, "--scores", tmp + "/x"], check=True, stdout=subprocess.DEVNULL)
        rows = list(csv.DictReader(open(tmp + "/x")))
    ours = {(r["task"], r["kind"], r["metric"]): float(r["value"]) for r in rows if r["weights"] == "trained"}

    def compare(task, kind, metric, theirs):
        print(f"{task:20} {kind:22} {metric:18} {100 * ours[task, kind, metric]:8.3f} {100 * theirs:8.3f}")

    print(f"{'task':20} {'kind':22} {'metric':18} {'ours':>8} {'theirs':>8}")
    for folder in tasks:
        task = os.path.basename(folder.rstrip("/"))
        test = read_tsv(folder + "/test.tsv")
        first = "sentence1" if "sentence1" in test[0] else "text"
        x = encoder.encode([r[first] for r in test])
        if first == "sentence1":
            y = encoder.encode([r["sentence2"] for r in test])
            cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
            if "score" in test[0] or "relatedness" in test[0]:
                gold = [float(r.get("score") or r["relatedness"]) for r in test]
                compare(task, "similarity", "Spearman", stats.spearmanr(gold, cosine)[0])
            else:
                gold = [int(r["label"]) for r in test]
                compare(task, "pairs", "average precision", sk.average_precision_score(gold, cosine))
            continue
        train = read_tsv(folder + "/train.tsv")
        xt, labels = encoder.encode([r["text"] for r in train]), np.array([r["label"] for r in train])
        gold = np.array([r["label"] for r in test])
        for shots in (8, 16):  # as mteb's AbsTaskClassification draws them
            got = []
            for draw in range(10):
                order = np.random.default_rng(draw).permutation(len(labels))
                chosen = [i for k in sorted(set(labels)) for i in order[labels[order] == k][:shots]]
                fit = LogisticRegression(max_iter=200).fit(xt[chosen], labels[chosen])
                got.append((fit.predict(x) == gold).mean())
            compare(task, f"{shots} examples a class", "accuracy", np.mean(got))
            print(f"{'':20} standard deviation of the ten draws {100 * np.std(got):.3f}")
        fit = LogisticRegression(max_iter=1000).fit(xt, labels)
        compare(task, "all examples", "accuracy", (fit.predict(x) == gold).mean())
        k = len(set(labels))
        if k > 2:
            compare(task, "clusters", "V-measure",
                    sk.v_measure_score(gold, KMeans(k, n_init=10, random_state=1).fit_predict(x)))


if __name__ == "__main__":
    if sys.argv[1:] == ["metrics"]:
        metrics()
    elif len(sys.argv) > 4 and sys.argv[1] == "scores":
        scores(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(__doc__)
