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


def mteb_task(kind, name, metric, splits):
    """A task of mteb's own class, with local data: splits[split][column] is a list."""
    import datasets
    import mteb
    from mteb import abstasks

    base = getattr(abstasks, "AbsTask" + kind)
    fields = dict(name=name, description=name, reference=None, type=kind, category="t2c", modalities=["text"],
                  dataset={"path": name, "revision": "1"}, eval_splits=["test"], eval_langs=["eng-Latn"],
                  main_score=metric, date=None, domains=None, task_subtypes=None, license=None,
                  annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation=None)
    data = datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in splits.items()})

    class Local(base):
        metadata = mteb.TaskMetadata(**fields)
        min_score, max_score = 0, 5
        input_column_name, label_column_name = "text", "labels" if kind.startswith("Pair") else "label"
        max_document_to_embed, max_fraction_of_documents_to_embed = None, 1.0

        def load_data(self, *args, **kwargs):
            self.dataset, self.data_loaded = data, True

    return Local()


def scores(model, hf, tasks):
    """Scores of a model's vectors by dev/eval and by mteb, with mteb's ten draws where it draws."""
    import os
    import tempfile

    import mteb
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    encoder = SentenceTransformer(hf)
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["dev/eval", model, *tasks, "--scores", tmp + "/x"], check=True, stdout=subprocess.DEVNULL)
        rows = list(csv.DictReader(open(tmp + "/x")))
    ours = {(r["task"], r["kind"], r["metric"]): float(r["value"]) for r in rows if r["weights"] == "trained"}

    def compare(task, kind, metric, theirs, spread=0):
        mine = 100 * ours[task, kind, metric]
        print(f"{task:20} {kind:22} {metric:18} {mine:8.3f} {100 * theirs:8.3f} {100 * spread:8.3f}", flush=True)

    def run(kind, name, metric, splits):
        result = mteb.evaluate(encoder, mteb_task(kind, name, metric, splits), cache=None, overwrite_strategy="always",
                               show_progress_bar=False)
        return result.task_results[0].scores["test"][0]

    print(f"{'task':20} {'kind':22} {'metric':18} {'ours':>8} {'mteb':>8} {'std':>8}")
    for folder in tasks:
        name = os.path.basename(folder.rstrip("/"))
        test = read_tsv(folder + "/test.tsv")
        if "sentence1" in test[0]:
            column = next(c for c in ("relatedness", "score", "label") if c in test[0])
            pair = {c: [r[c] for r in test] for c in ("sentence1", "sentence2")}
            if column == "label":
                got = run("PairClassification", name, "cosine_ap",
                          {"test": {**pair, "labels": [int(r[column]) for r in test]}})
                compare(name, "pairs", "average precision", got["cosine_ap"])
            else:
                got = run("STS", name, "cosine_spearman", {"test": {**pair, "score": [float(r[column]) for r in test]}})
                compare(name, "similarity", "Spearman", got["cosine_spearman"])
            continue
        train = read_tsv(folder + "/train.tsv")
        number = {k: i for i, k in enumerate(sorted({r["label"] for r in train}))}
        splits = {k: {"text": [r["text"] for r in v], "label": [number[r["label"]] for r in v]}
                  for k, v in (("train", train), ("test", test))}
        got = run("Classification", name, "accuracy", splits)
        draws = [e["accuracy"] for e in got["scores_per_experiment"]]
        compare(name, "8 examples a class", "accuracy", np.mean(draws), np.std(draws))
        x, xt = (encoder.encode(splits[k]["text"]) for k in ("test", "train"))
        fit = LogisticRegression(max_iter=1000).fit(xt, splits["train"]["label"])
        compare(name, "all examples", "accuracy", (fit.predict(x) == splits["test"]["label"]).mean())
        if len(number) > 2:
            got = run("Clustering", name, "v_measure", {"test": splits["test"]})
            compare(name, "clusters", "V-measure", got["v_measure"], got["v_measure_std"])


if __name__ == "__main__":
    if sys.argv[1:] == ["metrics"]:
        metrics()
    elif len(sys.argv) > 4 and sys.argv[1] == "scores":
        scores(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(__doc__)
