#!/usr/bin/env python3
"""The encoder once more, in PyTorch: a second opinion on train_optibert.c.

A tool for maintainers. It needs PyTorch (1.13 or newer) and numpy; users of the project need neither,
for the file it writes is kept beside it.

    dev/reference.py                          writes dev/reference.bin, which the test reads
    dev/reference.py --curve --train data/village_train.bin --val data/village_val.bin --steps 80 --against out/main.log
                                              the run that ./train_optibert --steps 80 made, from the same random numbers

The model below follows the description (README, design), not the C code, and its gradients are
autograd's. Both uses share it: the reference file is computed in float64, the curves in float32.

reference.bin is a sequence of records, little-endian:

    char name[24]   "CASE.tensor", padded with zeros
    uint32 kind     0 int32, 1 float32
    uint32 count    number of elements, which follow

  config            L C NH H T V B causal eot M steps
  inputs            (B,T) tokens as the model sees them, [MASK] = V in place
  rows, targets     (M) predicted positions as indices into B*T, ascending; the token that belongs there
  wte … normf       initial weights; dwte … dnormf: gradients of the mean loss
  x (L+1,B,T,C)     residual stream entering each layer and after the last; dx (B,T,C): gradient of x[0]
  qkv (L,B,T,3C)    q and k after RoPE; lse (L,B,NH,T): log-sum-exp of the scaled scores
  att (L,B,T,C)     before Wo; xm (L,B,T,C): the residual after attention; gu (L,B,T,2H): gate|up
  nf (M,C), logits (M,V+1), losses (M), loss (1)
  peak_lr (1), step_lr, step_loss, step_norm (steps), the norm before clipping; step_inputs (steps,B,T);
  step_M (steps); step_rows, step_targets (all steps one after the other); final_wte … after the steps
"""
import argparse
import io
import math
import os
import re
import signal
import struct
import sys

import numpy as np
import torch

BETAS, EPS, WEIGHT_DECAY, GRAD_CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0


def fail(message, code=1):
    print("reference.py: " + message, file=sys.stderr)
    sys.exit(code)


# ---------------------------------------------------------------------------------------------------
# The model

def shapes(L, C, H, V):
    """Name and shape of every tensor, layers stacked. wte has one more row than the vocabulary: [MASK]."""
    return {"wte": (V + 1, C), "norm1": (L, C), "wqkv": (L, 3 * C, C), "wo": (L, C, C), "norm2": (L, C),
            "wgu": (L, 2 * H, C), "wdown": (L, C, H), "normf": (C,)}


def rmsnorm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rope(x):
    """Rotate (B,NH,T,HS) by position: the pairs are channels i and i + HS/2 of a head."""
    T, half = x.shape[2], x.shape[3] // 2
    freq = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(T, dtype=torch.float64)[:, None] * freq
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attention_bias(inputs, eot, causal, dtype):
    """(B,1,T,T): 0 where a position may look, -inf elsewhere. An end of text begins its document."""
    T, document = inputs.shape[1], (inputs == eot).cumsum(1)
    allowed = document[:, :, None] == document[:, None, :]
    if causal:
        allowed = allowed & torch.ones(T, T, dtype=torch.bool).tril()
    bias = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -math.inf)
    return bias[:, None]


def forward(w, NH, eot, causal, inputs, rows, targets, trace=None):
    """Losses (M) of the predicted rows. trace, a dict of lists, receives the activations."""
    def keep(name, t):
        if trace is not None:
            trace.setdefault(name, []).append(t)

    (B, T), C = inputs.shape, w["wte"].shape[1]
    bias = attention_bias(inputs, eot, causal, w["wte"].dtype)
    names = ("norm1", "wqkv", "wo", "norm2", "wgu", "wdown")
    x = w["wte"][inputs]
    keep("x", x)
    for norm1, wqkv, wo, norm2, wgu, wdown in zip(*(w[name].unbind(0) for name in names)):
        # attention; heads() is (B,T,C) -> (B,NH,T,HS), flat() its inverse
        heads = lambda t: t.view(B, T, NH, C // NH).transpose(1, 2)
        flat = lambda t: t.transpose(1, 2).reshape(B, T, C)
        q, k, v = (heads(t) for t in (rmsnorm(x, norm1) @ wqkv.T).split(C, dim=-1))
        q, k = rope(q), rope(k)
        scores = (q / math.sqrt(C // NH)) @ k.transpose(-1, -2) + bias
        att = flat(scores.softmax(-1) @ v)
        if trace is not None:
            keep("qkv", torch.cat([flat(q), flat(k), flat(v)], -1))
            keep("lse", scores.logsumexp(-1))
        keep("att", att)
        x = x + att @ wo.T
        keep("xm", x)
        # feed-forward
        gu = rmsnorm(x, norm2) @ wgu.T
        keep("gu", gu)
        gate, up = gu.chunk(2, dim=-1)
        x = x + (torch.nn.functional.silu(gate) * up) @ wdown.T
        keep("x", x)
    # only the predicted rows reach the head
    nf = rmsnorm(x.reshape(B * T, C)[rows], w["normf"])
    logits = nf @ w["wte"].T
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    for name, t in (("nf", nf), ("logits", logits), ("losses", losses)):
        keep(name, t)
    return losses


def mask_rows(tokens, eot, V, rate, rng):
    """Masked LM: (inputs, rows, targets) of (B,T) tokens. End of text is never selected."""
    selected = (rng.random(tokens.shape) < rate) & (tokens != eot)
    return as_batch(np.where(selected, V, tokens), np.flatnonzero(selected), tokens[selected])


def shift_rows(tokens):
    """Next token: (inputs, rows, targets) of (B,T+1) tokens."""
    return as_batch(tokens[:, :-1], np.arange(tokens[:, 1:].size), tokens[:, 1:].reshape(-1))


def as_batch(*arrays):
    return tuple(torch.from_numpy(np.ascontiguousarray(a, dtype=np.int64)) for a in arrays)


# ---------------------------------------------------------------------------------------------------
# The optimiser

def learning_rate(step, steps, peak):
    """Linear warm-up over the first tenth of the steps, then a cosine that ends at a tenth of the peak."""
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - 1 - warm)
    return peak * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))


def adamw(w):
    return torch.optim.AdamW(w.values(), lr=0.0, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY)


def train_step(w, optimizer, lr, loss):
    """One update; returns the gradient's norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(w.values(), GRAD_CLIP)
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    return norm.item()


# ---------------------------------------------------------------------------------------------------
# First use: reference.bin

# eots: where the end of text stands in each row of the batch whose activations are kept. The seeds are chosen so
# that no gradient comes so near zero that AdamW, which divides by its size, makes a rounding error large, and
# that ntp has two steps whose gradient is too small to be clipped.
CASES = (
    # no size a multiple of 8; end of text first and last in a row, twice in succession, in one row none
    dict(name="mlm", L=2, C=12, NH=3, H=20, T=13, V=29, B=3, causal=0, steps=20, seed=1, eots=((0, 5, 12), (), (3, 4, 9))),
    # position T exists only as a target, and is an end of text once
    dict(name="ntp", L=1, C=10, NH=1, H=14, T=7, V=17, B=2, causal=1, steps=20, seed=17, eots=((0, 4, 7), (3,))),
    dict(name="wide", L=3, C=36, NH=2, H=52, T=40, V=101, B=2, causal=0, steps=20, seed=8, eots=((7, 31), (0, 1, 22))),
    # rows of one token: each attends to itself alone, q and k have no gradient (so no steps: see above)
    dict(name="one", L=1, C=8, NH=2, H=16, T=1, V=11, B=5, causal=0, steps=0, seed=1, eots=((), (), (0,), (), ())),
)
PEAK_LR = float(np.float32(0.01))


def write_record(f, name, value):
    a = value.detach().numpy() if torch.is_tensor(value) else np.asarray(value)
    kind, a = (0, a.astype("<i4")) if a.dtype.kind in "iu" else (1, a.astype("<f4"))
    assert len(name) < 24 and np.isfinite(a).all(), name
    f.write(struct.pack("<24sII", name.encode(), kind, a.size) + a.tobytes())


def case_weights(case):
    """Weights that float32 can represent, in float64. Norms differ from 1, so that they matter."""
    generator, w = torch.Generator().manual_seed(case["seed"]), {}
    for name, shape in shapes(case["L"], case["C"], case["H"], case["V"]).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float32)
        t = 1 + 0.1 * noise if name.startswith("norm") else noise / math.sqrt(shape[-1])
        w[name] = t.double().requires_grad_()
    return w


def case_batch(case, rng, eots=None):
    """A batch of random tokens; without eots, one token in eight is an end of text."""
    B, T, V, eot = case["B"], case["T"], case["V"], case["V"] - 1
    tokens = rng.integers(0, eot, (B, T + case["causal"]))
    if eots is None:
        tokens[rng.random(tokens.shape) < 0.125] = eot
    for b, places in enumerate(eots or ()):
        tokens[b, list(places)] = eot
    if case["causal"]:
        return shift_rows(tokens)
    batch = mask_rows(tokens, eot, V, 0.3, rng)
    return batch if len(batch[1]) > 0 else case_batch(case, rng, eots)


@torch.no_grad()
def check_gradients(w, mean_loss, h=1e-5):
    """Central differences of four random weights of each tensor; returns the largest deviation."""
    rng, worst = np.random.default_rng(0), 0.0
    for t in w.values():
        for i in rng.integers(0, t.numel(), 4):
            flat, sides = t.view(-1), []
            old = flat[i].item()
            for value in (old + h, old - h):
                flat[i] = value
                sides.append(mean_loss().item())
            flat[i] = old
            worst = max(worst, abs((sides[0] - sides[1]) / (2 * h) - t.grad.view(-1)[i].item()))
    return worst


def write_case(f, case):
    name, eot, steps = case["name"], case["V"] - 1, case["steps"]
    put = lambda key, value: write_record(f, name + "." + key, value)
    losses_of = lambda batch, trace=None: forward(w, case["NH"], eot, case["causal"], *batch, trace)
    w, rng, trace = case_weights(case), np.random.default_rng(case["seed"]), {}
    batch = case_batch(case, rng, case["eots"])
    M = len(batch[1])

    put("config", [case[k] for k in ("L", "C", "NH", "H", "T", "V", "B", "causal")] + [eot, M, steps])
    for key, value in (*zip(("inputs", "rows", "targets"), batch), *w.items()):
        put(key, value)
    loss = losses_of(batch, trace).mean()
    trace["x"][0].retain_grad()
    loss.backward()
    for key in ("x", "qkv", "lse", "att", "xm", "gu"):
        put(key, torch.stack(trace[key]))
    for key in ("nf", "logits", "losses"):
        put(key, trace[key][0])
    put("loss", [loss.item()])
    put("dx", trace["x"][0].grad)
    for key, t in w.items():
        put("d" + key, t.grad)
    deviation = check_gradients(w, lambda: losses_of(batch).mean())
    if not deviation < 1e-7:
        fail("case %s: gradients differ from finite differences by %g; nothing was written" % (name, deviation))
    print("%-5s M %3d  loss %.6f  finite differences within %.1e" % (name, M, loss.item(), deviation))
    if steps == 0:
        return

    optimizer, log, batches = adamw(w), [], []
    for step in range(steps):
        batches.append(case_batch(case, rng))
        loss, lr = losses_of(batches[-1]).mean(), learning_rate(step, steps, PEAK_LR)
        log.append((loss.item(), train_step(w, optimizer, lr, loss), lr))
    losses, norms, lrs = zip(*log)
    inputs, rows, targets = zip(*batches)
    for key, value in (("peak_lr", [PEAK_LR]), ("step_loss", losses), ("step_norm", norms), ("step_lr", lrs),
                       ("step_inputs", torch.stack(inputs)), ("step_M", [len(r) for r in rows]),
                       ("step_rows", torch.cat(rows)), ("step_targets", torch.cat(targets))):
        put(key, value)
    for key, t in w.items():
        put("final_" + key, t)
    print("      %d steps, loss %.4f .. %.4f, norm %.2f .. %.2f" % (steps, losses[0], losses[-1], min(norms), max(norms)))


def write_reference(path):
    torch.set_num_threads(1)  # sums in one order: the same bytes
    f = io.BytesIO()      # all of it or nothing
    for case in CASES:
        write_case(f, case)
    with open(path, "wb") as out:
        out.write(f.getvalue())
    print("%s: %d bytes" % (path, len(f.getvalue())))


# ---------------------------------------------------------------------------------------------------
# Second use: loss curves

def read_shard(path):
    """(tokens, V, eot) of one token shard; the tokens stay on disk."""
    try:
        header, size = np.fromfile(path, dtype="<i4", count=256), os.path.getsize(path)
    except OSError as e:
        fail("%s: %s" % (path, e.strerror))
    if len(header) < 256 or header[0] != 20240520 or header[1] != 1:
        fail("%s: not a token shard (magic 20240520, version 1); make one with data/tokenize" % path)
    count, (V, eot) = int(header[2]), (int(header[3]), int(header[4]) - 1) if header[3] else (50257, 50256)
    if count < 1 or size != 1024 + 2 * count:
        fail("%s: the header says %d tokens, the file holds %d; make it again" % (path, count, (size - 1024) // 2))
    tokens = np.memmap(path, dtype="<u2", mode="r", offset=1024, shape=(count,))
    if tokens.max() >= V:
        fail("%s: token %d is outside its vocabulary of %d; make it again" % (path, tokens.max(), V))
    return tokens, V, eot


def hash3(seed, stream, index):
    """The C program's random numbers: a hash of (seed, stream, index), of which the last may be an array."""
    x = np.zeros(np.shape(index), np.uint64)
    for part in (seed, stream, index):
        x = x + np.asarray(part, np.uint64) + np.uint64(0x9e3779b97f4a7c15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        x = x ^ (x >> np.uint64(31))
    return x


def uniform(seed, stream, index):
    return (hash3(seed, stream, index) >> np.uint64(11)).astype(np.float64) * 2.0 ** -53


STREAM_INIT, STREAM_MASK, STREAM_SHUFFLE, STREAM_VAL_MASK, VAL_SEED = 1, 2, 3, 4, 1


def initial_weights(o, H, V):
    """Normal by Box and Muller, a pair of numbers for each; those beyond three sigma are passed over."""
    sizes, w = shapes(o.layers, o.channels, H, V), {}
    most = int(1.01 * sum(math.prod(s) for s in sizes.values())) + 1000
    u = uniform(o.seed, STREAM_INIT, np.arange(2 * most))
    z = np.sqrt(-2 * np.log(1 - u[::2])) * np.cos(6.283185307179586 * u[1::2])
    z = z[np.abs(z) <= 3]
    for name, shape in sizes.items():
        w[name] = torch.ones(shape)
        if not name.startswith("norm"):  # the last dimension: H for wdown, else C
            n = math.prod(shape)
            w[name] = torch.from_numpy((z[:n] * (1 / math.sqrt(shape[-1]))).astype(np.float32)).view(shape)
            z = z[n:]
        w[name].requires_grad_()
    return w


def shuffled_row(i, n, seed, epoch):
    """The i-th of n rows in the order of an epoch: a four-round Feistel network."""
    bits = 1
    while 4 ** bits < n:
        bits += 1
    mask, x = 2 ** bits - 1, i
    while True:
        left, right = x >> bits, x & mask
        for turn in range(4):
            key = hash3(seed, STREAM_SHUFFLE, epoch * 4 + turn)
            left, right = right, left ^ (int(hash3(key, 0, right)) & mask)
        x = left << bits | right
        if x < n:
            return x


def curve(o):
    """The run of ./train_optibert with these options: the same weights, rows and masks."""
    torch.set_num_threads(o.threads)
    np.seterr(over="ignore")
    causal, T = int(o.objective == "ntp"), o.seq_len
    (train, V, eot), (val, val_V, val_eot) = read_shard(o.train), read_shard(o.val)
    if (val_V, val_eot) != (V, eot):
        fail("%s: its vocabulary is not that of %s; use shards that were made together" % (o.val, o.train))
    n_train, n_val = (len(train) - causal) // T, (len(val) - causal) // T
    if min(n_train, n_val) < 1:
        fail("--seq-len %d: a shard holds no row of that length; choose a shorter one" % T)
    H = o.hidden or max(16, (8 * o.channels + 24) // 48 * 16)  # 8C/3 to the nearest multiple of 16
    w = initial_weights(o, H, V)
    optimizer, rows = adamw(w), min(512, n_val)

    def batch_of(shard, which, seed, stream, first):
        """Rows of a shard; the first of them has the number `first` in the run, or in the validation set."""
        tokens = np.stack([shard[i * T:i * T + T + causal] for i in which]).astype(np.int64)
        if causal:
            return shift_rows(tokens)
        places = (first + np.arange(len(which)))[:, None] * T + np.arange(T)
        selected = (uniform(seed, stream, places) < o.mask_rate) & (tokens != eot)
        return as_batch(np.where(selected, V, tokens), np.flatnonzero(selected), tokens[selected])

    def validation():
        which = [int(r * n_val / rows) for r in range(rows)]
        with torch.no_grad():
            losses = torch.cat([forward(w, o.heads, eot, causal, *batch_of(
                val, which[i:i + o.batch], VAL_SEED, STREAM_VAL_MASK, i)) for i in range(0, rows, o.batch)])
        return losses.double().mean().item()

    log = {"s:0 tel": validation()}
    for step in range(o.steps):
        first = step * o.batch
        which = [shuffled_row(i % n_train, n_train, o.seed, i // n_train) for i in range(first, first + o.batch)]
        batch = batch_of(train, which, o.seed, STREAM_MASK, first)
        loss = forward(w, o.heads, eot, causal, *batch).mean()
        if not math.isfinite(loss.item()):
            fail("step %d: the loss is %f; try a lower --lr" % (step + 1, loss.item()))
        train_step(w, optimizer, learning_rate(step, o.steps, o.lr), loss)
        log["s:%d trl" % (step + 1)] = loss.item()
    log["s:%d tel" % o.steps] = validation()
    for key, value in log.items():
        print("%s:%.6f" % (key, value))
    if o.against:
        ours = {m[1]: float(m[2]) for m in re.finditer(r"(s:\d+ t[re]l):(\S+)", open(o.against).read())}
        if missing := log.keys() - ours.keys():
            fail("%s: has no line for %s; train as many steps" % (o.against, min(missing)))
        worst = max(log, key=lambda k: abs(ours[k] - log[k]))
        print("largest difference from %s: %.1e, at %s" % (o.against, abs(ours[worst] - log[worst]), worst))


def main():
    p = argparse.ArgumentParser(description="PyTorch reference of the encoder (needs PyTorch; users do not need it)")
    p.add_argument("--out", metavar="FILE", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference.bin"),
                   help="where the reference file goes, default beside this script")
    p.add_argument("--curve", action="store_true", help="train on shards and print the losses instead")
    p.add_argument("--train", metavar="SHARD")
    p.add_argument("--val", metavar="SHARD")
    p.add_argument("--against", metavar="LOG", help="main.log of the C program's run, to compare with")
    p.add_argument("--objective", choices=("mlm", "ntp"), default="mlm")
    for name, default in dict(layers=2, channels=64, heads=2, seq_len=128, batch=32, steps=80, seed=1).items():
        p.add_argument("--" + name.replace("_", "-"), type=int, default=default, metavar="N", help="default %d" % default)
    p.add_argument("--hidden", type=int, default=0, metavar="N", help="default 8/3 of the channels")
    p.add_argument("--threads", type=int, default=2, metavar="N", help="default 2 (OpenBLAS heeds OPENBLAS_NUM_THREADS instead)")
    p.add_argument("--lr", type=float, default=0, metavar="X", help="peak learning rate, default 0.5 / channels")
    p.add_argument("--mask-rate", type=float, default=0.2, metavar="X", help="default 0.2")
    o = p.parse_args()
    if not o.curve:
        return write_reference(o.out)
    if not o.train or not o.val:
        fail("--curve needs --train SHARD and --val SHARD", 2)
    if min(o.layers, o.channels, o.heads, o.seq_len, o.batch, o.steps, o.threads) < 1:
        fail("sizes and counts start at 1", 2)
    if o.channels % (2 * o.heads):
        fail("--channels %d: must be a multiple of twice --heads %d" % (o.channels, o.heads), 2)
    o.lr = o.lr or 0.5 / o.channels
    curve(o)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # | head
    main()
