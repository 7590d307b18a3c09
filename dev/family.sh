#!/bin/sh
# Experiments on one text: prints one command a run, which may be killed and given again.
#
#   dev/family.sh ratios PREFIX RUNS   mlm and ntp, six sizes at each budget: the two best data/model ratios
#   dev/family.sh recipes PREFIX RUNS  the split and the masks of published encoders, at equal compute
#   dev/family.sh masks PREFIX RUNS    mask rates from 10 to 50%
#   dev/family.sh points RUNS          the loss points of what has finished, as CSV
#
#   dev/family.sh ratios data/mix runs | xargs -P 2 -I{} sh -c '{}'      two at a time, on two cores
# PREFIX_train.bin and PREFIX_val.bin are the text, RUNS a folder for the runs. Rows and rate follow one rule, fixed
# beforehand: 8 rows a step below 5 million tokens, 16 below 30 million, then 32; rate 0.064 / sqrt(channels), times
# the fourth root of rows / 16.
set -eu
case ${1:-}$# in
ratios3 | recipes3 | masks3) ;;
points2) find "$2" -name result.csv | LC_ALL=C sort | xargs awk 'NR == 1 || FNR == 2'; exit ;;
*) echo "family.sh: ratios|recipes|masks PREFIX RUNS, or points RUNS" >&2; exit 2 ;;
esac
exec awk -v stage="$1" -v prefix="$2" -v runs="$3" '
# The shape of rung i of the ladder of train_optibert.c: layers L, channels W; F: its F_N in rows of 128 tokens, N: its
# parameters without the embedding.
function shape(i,   s, H) {
    split(ladder[i], s, "x"); L = s[1]; W = s[2]
    H = int((W * 8 + 24) / 48) * 16; if (H < 16) H = 16
    N = L * (4 * W * W + 3 * W * H); F = 6 * N + 12 * L * W * 128
}
function run(name, objective, C, seed, more,   D, rows) {
    D = C / F; rows = D < 5e6 ? 8 : D < 3e7 ? 16 : 32
    name = name "-" L "x" W "-" C "-seed" seed
    printf "./train_optibert --train %s_train.bin --objective %s --layers %d --channels %d --flops %s --batch %d " \
           "--lr %.5g --seed %d --val-rows 2048 --val-every 100000000 --threads 1%s --out %s/%s --resume >/dev/null\n",
           prefix, objective, L, W, C, rows, 0.064 / sqrt(W) * (rows / 16) ^ 0.25, seed, more, runs, name
}
# The rung whose F is nearest to what is wanted; with a ratio, whose N * ratio tokens cost nearest to C.
function nearest(C, ratio, want,   i, off, least, best) {
    least = 1e9
    for (i = 1; i <= rungs; i++) {
        shape(i); off = log(ratio ? F * N * ratio / C : F / want)
        if (off < 0) off = -off
        if (off < least) { least = off; best = i }
    }
    return best
}
function ratios(C, seeds, sizes,   k, o, middle, i, seed) {
    for (o = 1; o <= 2; o++) {
        middle = nearest(C, 0, o == 1 ? 8.54e-4 * C ^ 0.680 : 0.0358 * C ^ 0.594) # the optima of train_optibert.c
        for (seed = 1; seed <= seeds; seed++)
            for (k = 0; k < sizes; k++) {
                i = middle + k - int(sizes / 2); if (i < 1) i += sizes
                shape(i); run(o == 1 ? "mlm" : "ntp", o == 1 ? "mlm" : "ntp", C, seed, "")
            }
    }
}
function recipe(C, seeds, name, ratio, masks,   seed) {
    shape(nearest(C, ratio, 0))
    for (seed = 1; seed <= seeds; seed++) run(name, "mlm", C, seed, " --val-mask-rate 0.2 " masks)
}
function recipes(C, seeds) {
    shape(nearest(C, 0, 8.54e-4 * C ^ 0.680)); recipe(C, seeds, "optibert", C / F / N, "--mask-rate 0.2")
    shape(nearest(C, 0, 0.0358 * C ^ 0.594)); recipe(C, seeds, "ntp-optimum", C / F / N, "--mask-rate 0.2")
    recipe(C, seeds, "chinchilla", 20, "--mask-rate 0.2")
    recipe(C, seeds, "optibertneo", 66, "--mask-rate 0.2")
    recipe(C, seeds, "mosaicbert", 370, "--mask-rate 0.3")
    recipe(C, seeds, "bert", 1540, "--mask-rate 0.15 --mask-style bert")
    recipe(C, seeds, "neobert", 10600, "--mask-rate 0.2")
    recipe(C, seeds, "modernbert", 15600, "--mask-rate 0.3")
    recipe(C, seeds, "roberta", 24400, "--mask-rate 0.15 --mask-style bert")
    recipe(C, seeds, "eurobert", 44000, "--mask-rate 0.5")
}
BEGIN {
    rungs = split("2x16 2x24 2x32 2x40 2x48 2x64 2x80 2x96 2x128 3x128 3x160 3x192 4x192 4x224 5x256 6x288 1x16", ladder, " ")
    if (stage == "ratios") {
        ratios("1.6e12", 3, 6); ratios("5e12", 3, 6); ratios("1.6e13", 3, 6); ratios("5e13", 2, 6); ratios("1.6e14", 1, 5)
    } else if (stage == "recipes") { recipes("5e12", 3); recipes("1.6e13", 3); recipes("1.6e14", 1) }
    else for (seed = 1; seed <= 3; seed++) for (r = 10; r <= 50; r += r < 20 ? 5 : 10) {
        shape(nearest(5e12, 0, 8.54e-4 * 5e12 ^ 0.680))
        run("masks" r, "mlm", "5e12", seed, " --mask-rate " r / 100 " --val-mask-rate 0.2")
    }
}'
