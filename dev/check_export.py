#!/usr/bin/env python3
"""
Does what dev/export writes open in the real libraries, and do they compute the same? For maintainers.

    pip install torch 'transformers>=5.3' tokenizers sentence-transformers
    make tools && dev/check_export.py MODEL TEXT...     all comparisons, with some text to encode
    dev/check_export.py --reference                     writes dev/export_reference.txt, for make test

MODEL is a model.bin or the folder of a run. A TEXT that ends in .bin is a token shard made with its vocabulary;
for a vocabulary of whole words (the village's) there is no other kind.
"""
import logging, os, random, re, struct, subprocess, sys, tempfile, time
from pathlib import Path
os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
failures = 0

# Prints, for ids on its input, our vector and our logits at each of them.
OURS = r"""
#define EVAL_NO_MAIN
#include "dev/eval.c"
int main(int argc, char **argv) {
    Model m;
    Vocab v;
    int32_t ids[1 << 16];
    size_t T = fread(ids, sizeof *ids, 1 << 16, stdin), *rows = alloc_or_die(T * sizeof *rows);
    load_model(&m, &v, argv[argc - 1], 1, NEED_HEAD);
    for (size_t t = 0; t < T; t++) rows[t] = t;
    Document whole = {0, T, 0, T};
    Batch in = {1, T, 1, ids, rows, alloc_or_die(T * sizeof(int32_t)), &whole};
    m.c.T = T;
    model_pass(&m, &in, 0);
    fwrite(m.nf, sizeof(float), T * m.c.C, stdout);
    fwrite(m.logits, sizeof(float), T * (m.c.V + 1), stdout);
}
"""


def check(ok, message):
    global failures
    failures += not ok
    print("%-6s %s" % ("ok" if ok else "FAILED", message), flush=True)


class Complaints(logging.Handler):
    """All that the libraries warn of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []
        for name in ("transformers", "sentence_transformers", "py.warnings"):
            logging.getLogger(name).addHandler(self)
        logging.captureWarnings(True)

    def emit(self, record):
        self.said.append(record.getMessage())


def run(*command, **more):
    """What a program of this project prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, **more).stdout


class Model:
    """What a model.bin says of itself: its shape, its end of text and its strings."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        self.path = path
        self.L, self.C, self.NH, self.H, self.T, self.V, self.causal, size = struct.unpack_from("<8Q", data, 16)
        self.vocab = data[80:80 + size]
        self.eot = struct.unpack_from("<4i", self.vocab)[3]
        self.strings, at = [], 1024
        while at < size:
            self.strings.append(self.vocab[at + 1:at + 1 + self.vocab[at]])
            at += 1 + self.vocab[at]

    def forward(self, ours, ids):
        """Our vectors (T,C) and logits (T,V+1)."""
        x = np.frombuffer(run(ours, self.path, input=np.array(ids, np.int32).tobytes()), np.float32)
        return x[:len(ids) * self.C].reshape(len(ids), -1), x[len(ids) * self.C:].reshape(len(ids), -1)


def odd_texts():
    """Texts that are hard to cut into pieces or to merge."""
    yield "\r\nOne.\r\n\r\n\tTwo\t\t three   four     \n\n\n  five \r six\x0b\x0c\x1f\x7f\x00 seven  "
    yield "寿司を「食べる」。你好，世界！ ชาวไทย हिन्दी 한국어 \u3000全角\u3000 العربية"
    yield ("👩‍👩‍👧‍👦 emoji 🏳️‍🌈🙂🙂 e\u0301 ﬁ ½ × ÷ « quoted » “fine” — … ’s it's IT'S"
           "\u00a0\u00ad\u200b\u2070\u207f\u2080\u20ac")
    yield "".join(map(chr, range(0x500)))
    yield "\n".join(start + (run * n)[:n] + " a" for run in ("the", "199", "--", "é", "界", " ", "\n")
                    for start in ("", "a ") for n in (1022, 1023, 1024, 1025, 1026, 1027, 2500))
    draw = random.Random(1)
    for alphabet in ("ab \n", "aA1.,  \t\r\n\x00é—「⁰界🙂\xa0", "the and of in to e a t  ,.—"):
        yield "".join(draw.choice(alphabet) for _ in range(300000))


def documents(paths):
    """The texts of files, cut at line ends into documents of about 100 kB."""
    for path in paths:
        text = Path(path).read_bytes().decode("utf-8", "replace")
        while text:
            cut = text.find("\n", 100000) + 1 or len(text)
            yield text[:cut]
            text = text[cut:]


def tokenize(model, docs, folder):
    """The ids that data/tokenize gives documents, each in a file of its own."""
    Path(folder, "v.vocab").write_bytes(model.vocab)
    names = ["%s/%d.txt" % (folder, i) for i in range(len(docs))]
    for path, doc in zip(names, docs):
        Path(path).write_bytes(doc.encode())
    run("data/tokenize", "--vocab", folder + "/v.vocab", "--val-fraction", "0", "--out", folder + "/ours",
        "--overwrite", *names, stderr=subprocess.DEVNULL)
    return np.fromfile(folder + "/ours_train.bin", np.uint16)[512:]


def check_ids(model, tokenizer, paths, folder):
    """The library's ids and ours, of texts, and of the texts of shards."""
    groups = {"invented text": odd_texts(), "text": documents(p for p in paths if not p.endswith(".bin"))}
    for name, docs in groups.items():
        docs = [re.sub(r"\[MASK\]|<\|endoftext\|>", "", d) for d in docs]
        if docs and all(bytes([byte]) in model.strings for byte in range(256)):
            compare_ids(name, tokenizer, docs, tokenize(model, docs, folder))
    for path in paths:
        if path.endswith(".bin"):
            ids = np.fromfile(path, np.uint16)[512:]
            starts = np.flatnonzero(ids == model.eot)
            parts = np.split(ids, starts)[1:]
            docs = [b"".join(model.strings[i] for i in part[1:]).decode() for part in parts]
            compare_ids(os.path.basename(path), tokenizer, docs, ids[starts[0]:])


def compare_ids(name, tokenizer, docs, ours):
    start = time.time()
    theirs = np.concatenate([np.array(tokenizer.encode(d).ids, np.uint16) for d in docs])
    same = len(theirs) == len(ours) and (theirs == ours).all()
    first = "" if same else ": they differ at %d" % next(
        (i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
    check(same, "ids of %s: %d bytes, %d of theirs, %d of ours, %.1f s%s" % (
        name, sum(len(d.encode()) for d in docs), len(theirs), len(ours), time.time() - start, first))


def check_logits(model, theirs, ours, draw):
    """Logits and vectors at all positions, of random ids, masked and not."""
    worst = largest = vectors = 0
    for T in sorted({1, 2, 3, 7, 16, 33, min(100, model.T), model.T}):
        for masked in (0, 0.2, 1):
            if T > model.T:
                continue
            ids = [model.eot] + [model.V if draw.random() < masked else draw.randrange(model.V) for _ in range(T - 1)]
            nf, logits = model.forward(ours, ids)
            with torch.no_grad():
                out = theirs(torch.tensor([ids]), output_hidden_states=True)
            worst = max(worst, np.abs(out.logits[0].numpy() - logits).max())
            vectors = max(vectors, np.abs(out.hidden_states[-1][0].numpy() - nf).max())
            largest = max(largest, np.abs(logits).max())
    check(worst < 1e-4, "logits, up to %.1f, differ by at most %.2g; vectors by %.2g" % (largest, worst, vectors))


def check_fill(model, folder, texts):
    """The fill-mask pipeline's guesses and those of dev/eval --fill."""
    pipe, worst = transformers.pipeline("fill-mask", model=folder), 0
    for text in texts:
        theirs = pipe(text)
        theirs = [theirs] if isinstance(theirs[0], dict) else theirs
        lines = run("dev/eval", model.path, "--fill", text).decode().splitlines()
        for line, guesses in zip(lines, theirs):
            ours = re.findall(r'"(.*?)" ([0-9.]+)%(?=  |$)', line)
            printed = [re.sub(r"[\x00-\x1f\x7f]", "", g["token_str"].replace("\n", r"\n")) for g in guesses]
            same = [w for w, _ in ours] == printed
            worst = max([worst] + [abs(g["score"] * 100 - float(p)) for (_, p), g in zip(ours, guesses)])
            check(same, "fill-mask: %s: %s" % (text, line if same else "%s, theirs: %s" % (line, guesses)))
    check(worst < 0.0501, "fill-mask: percentages differ by at most %.3f; ours are rounded to 0.1" % worst)


def check_sentences(model, folder, ours, tokenizer, texts):
    """SentenceTransformer's vectors and the mean of ours, end of text included; and those of dev/eval --embed."""
    from sentence_transformers import SentenceTransformer
    st = SentenceTransformer(folder)
    theirs = st.encode(texts)
    means = np.array([model.forward(ours, tokenizer.encode(t).ids[:model.T])[0].mean(0) for t in texts])
    check(np.abs(theirs - means).max() < 1e-4, "sentence-transformers: %d vectors of %d differ by at most %.2g" % (
        *theirs.shape, np.abs(theirs - means).max()))
    st.save_pretrained(folder + "/saved")
    check_back(model, folder + "/saved", "saved by sentence-transformers")
    if "--embed" in run("dev/eval", "--help").decode():
        Path(folder, "lines.txt").write_text("\n".join(texts) + "\n", "utf-8")
        try:
            run("dev/eval", model.path, "--embed", folder + "/lines.txt", "--out", folder + "/x.npy",
                stderr=subprocess.PIPE)
            off = np.abs(theirs - np.load(folder + "/x.npy")).max()
            check(off < 1e-4, "dev/eval --embed: differs by at most %.2g" % off)
        except subprocess.CalledProcessError as e:
            check(False, "dev/eval --embed: " + e.stderr.decode().strip())


def check_back(model, folder, how):
    """What is in a folder is the same model."""
    run("dev/export", "--import", folder, folder + "/back.bin")
    same = Path(folder, "back.bin").read_bytes() == Path(model.path).read_bytes()
    check(same, "--import, as %s: the same bytes" % how)


def write_reference():
    """What the libraries make of dev/export_reference.bin, in lines that dev/test.c reads."""
    path = ROOT + "/dev/export_reference"
    model, draw = Model(path + ".bin"), random.Random(3)
    with tempfile.TemporaryDirectory() as folder, open(path + ".txt", "w") as f:
        run("dev/export", path + ".bin", folder)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
            f.write("file %s %016x\n" % (name, checksum(Path(folder, name).read_bytes())))
        tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        texts = ["", "The loss of the [MASK] [MASK], and  [MASK]\n"]
        texts += [text.replace("\0", "") for text in list(odd_texts())[:3]]
        texts += ["".join(draw.choice("theornda  .,1\n\t\u00e9\u2014") for _ in range(120)) for _ in range(6)]
        for text in texts:
            ids = tokenizer.encode(text).ids
            f.write("text %s %d %s\n" % (text.encode().hex() or "-", len(ids), " ".join(map(str, ids))))
        theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder)
        for T in (1, 9, model.T):
            ids = [model.eot] + [model.V if t % 3 == 1 else draw.randrange(model.V) for t in range(T - 1)]
            with torch.no_grad():
                logits = theirs(torch.tensor([ids])).logits[0, T // 2, ::16].numpy()
            f.write("logits %d %s %d %s\n" % (T, " ".join(map(str, ids)), len(logits),
                                              " ".join("%.6f" % x for x in logits)))


def checksum(data):
    """checksum_add() of train_optibert.c."""
    total, data = 0xcbf29ce484222325, data + bytes(-len(data) % 4)
    for word in struct.unpack("<%dI" % (len(data) // 4), data):
        total = (total ^ word) * 0x100000001b3 % (1 << 64)
    return total


def main(path, *texts):
    path = os.path.abspath(path + "/model.bin" if os.path.isdir(path) else path)
    model, draw = Model(path), random.Random(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder, ours = scratch + "/hf", scratch + "/ours"
        run("cc", "-std=gnu11", "-O2", "-xc", "-", "-I" + ROOT, "-o", ours, "-lm", input=OURS.encode())
        run("dev/export", path, folder)
        auto = transformers.AutoModelForCausalLM if model.causal else transformers.AutoModelForMaskedLM
        theirs, info = auto.from_pretrained(folder, output_loading_info=True)
        check(not any(info.values()), "from_pretrained: %s, %s" % (
            type(theirs).__name__, ", ".join("%s: %s" % (k, len(v)) for k, v in info.items())))
        check_logits(model, theirs, ours, draw)
        check_back(model, folder, "exported")
        if not model.vocab:  # and so no tokenizer
            return
        theirs.save_pretrained(scratch + "/saved")
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(scratch + "/saved")
        check_back(model, scratch + "/saved", "saved by transformers")
        tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        check_ids(model, tokenizer, texts, scratch)
        words = [" ".join(s.decode("utf-8", "replace").strip() for s in draw.choices(model.strings[256:-1], k=n))
                 for n in (1, 5, 9)]
        if not model.causal:
            check_fill(model, folder, ["[MASK]", words[0] + " [MASK].",
                                       "[MASK] %s [MASK][MASK] %s" % (words[1], words[2])])
        check_sentences(model, folder, ours, tokenizer, words + [" ".join(words * 30)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print("torch %s, transformers %s" % (torch.__version__, transformers.__version__))
    complaints = Complaints()
    write_reference() if sys.argv[1] == "--reference" else main(*sys.argv[1:])
    check(not complaints.said, "%d warnings%s" % (len(complaints.said), "".join("\n" + c for c in complaints.said[:5])))
    sys.exit(failures > 0)
