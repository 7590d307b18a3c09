#!/bin/sh
# Experiments on one text: prints one command a run, which may be killed and given again.
#   dev/family.sh ratios PREFIX RUNS   mlm and ntp, six sizes at each budget: the two best data/model ratios
#   dev/family.sh varied PREFIX RUNS   the same at 5e12 with 40% masked (mlm), and with rows of 256 tokens
#   dev/family.sh recipes PREFIX RUNS  the split and the masks of published encoders, at equal compute
#   dev/family.sh masks PREFIX RUNS    mask rates of 10, 15, 40, 50% (20 and 30%: recipes optibert, mosaicbert at 5e12)
#   dev/family.sh family PREFIX RUNS   the best mlm and ntp from 1.6e12 to 1.6e14, with all checkpoints kept
#   dev/family.sh points RUNS          the loss points of what has finished, as CSV, each after its name
#   dev/family.sh ratios data/mix runs | tr '\n' '\0' | xargs -0 -n 1 -P 2 sh -c      two at a time, on two cores
# PREFIX_train.bin and PREFIX_val.bin are the text, RUNS a folder for the runs. Rows and rate follow one rule, fixed
# beforehand: 8 rows of 128 tokens a step below 5 million tokens, 16 below 30 million, then 32; rate 0.064 /
# sqrt(channels), times the fourth root of rows / 16. Of rows that are twice as long it takes half as many.
set -eu
case ${1:-}$# in
ratios3 | varied3 | recipes3 | masks3 | family3) ;;
points2) cd "$2"; exec awk 'NR == 1 {print "run," $0} FNR == 2 {sub("/.*", "", FILENAME); print FILENAME "," $0}' */result.csv ;;
*) echo "family.sh: ratios|varied|recipes|masks|family PREFIX RUNS, or points RUNS" >&2; exit 2 ;;
esac
exec awk -v stage="$1" -v prefix="$2" -v runs="$3" '
# Rung i of the ladder of train_optibert.c (then one below, and 1x32, which nearest() does not choose): layers L,
# channels W; F: its F_N in rows of T tokens, N: its parameters without the embedding.
function shape(i,   s, H) {
    split(ladder[i], s, "x"); L = s[1]; W = s[2]
    H = int((W * 8 + 24) / 48) * 16; if (H < 16) H = 16
    N = L * (4 * W * W + 3 * W * H); F = 6 * N + 12 * L * W * T
}
function run(name, objective, C, seed, more,   D, rows) {
    D = C / F; rows = D < 5e6 ? 8 : D < 3e7 ? 16 : 32
    printf "./train_optibert --train %s_train.bin --objective %s --layers %d --channels %d --flops %s --batch %d " \
           "--lr %.5g --seed %d --val-rows 2048 --val-every 100000000 --threads 1%s --out %s/%s-%dx%d-%s-seed%d " \
           "--resume >/dev/null\n", prefix, objective, L, W, C, rows * 128 / T, 0.064 / sqrt(W) * (rows / 16) ^ 0.25, seed,
           more, runs, name, L, W, C, seed
}
# The rung whose F is nearest to what is wanted; with a ratio, whose N * ratio tokens cost nearest to C.
function nearest(C, ratio, want,   i, off, least, rung) {
    least = 1e9
    for (i = 1; i <= rungs; i++) {
        shape(i); off = log(ratio ? F * N * ratio / C : F / want) ^ 2
        if (off < least) { least = off; rung = i }
    }
    return rung
}
# The rung at the optimum of mlm, 1, or ntp, 2, by the laws of train_optibert.c.
function best(o, C) { return nearest(C, 0, o == 1 ? 8.54e-4 * C ^ 0.680 : 0.0358 * C ^ 0.594) }
function ratios(C, seeds, sizes, objectives, what, more,   k, o, i, seed) {
    for (o = 1; o <= objectives; o++) for (seed = 1; seed <= seeds; seed++) for (k = 0; k < sizes; k++) {
        i = best(o, C) + k - int(sizes / 2); if (i < 1) i += sizes
        shape(i); run((o == 1 ? "mlm" : "ntp") what, o == 1 ? "mlm" : "ntp", C, seed, more)
    }
}
# The list holds name/tokens for each parameter that is not of the embedding/mask rate/mask style; 0 tokens: the optimum
# of mlm or ntp; "wide": 1 x 32, as wide for its depth as NeoBERT and ModernBERT, with about the tokens of NeoBERT.
function recipes(list, C, seeds,   n, k, t, seed) {
    n = split(list, table, " ")
    for (k = 1; k <= n; k++) {
        split(table[k], t, "/")
        shape(t[2] == "wide" ? rungs + 1 : t[2] ? nearest(C, t[2], 0) : best(k, C))
        for (seed = 1; seed <= seeds; seed++)
            run(t[1], "mlm", C, seed, " --val-mask-rate 0.2 --mask-rate " t[3] (t[4] ? " --mask-style " t[4] : ""))
    }
}
BEGIN {
    rungs = split("2x16 2x24 2x32 2x40 2x48 2x64 2x80 2x96 2x128 3x128 3x160 3x192 4x192 4x224 5x256 6x288 1x16 1x32", ladder, " ") - 1
    n = split("1.6e12 5e12 1.6e13 5e13 1.6e14", C, " "); T = 128
    all = "optibert/0/0.2 ntp-optimum/0/0.2 chinchilla/20/0.2 optibertneo/66/0.2 mosaicbert/370/0.3 bert/1540/0.15/bert " \
          "neobert/10600/0.2 modernbert/15600/0.3 roberta/24400/0.15/bert eurobert/44000/0.5"
    wide = "neobert-wide/wide/0.2 modernbert-wide/wide/0.3"
    if (stage == "ratios") for (k = 1; k <= n; k++) ratios(C[k], k < 4 ? 3 : 6 - k, k < 5 ? 6 : 5, 2) # 3 3 3 2 1 seeds
    else if (stage == "varied") {
        ratios(C[2], 1, 6, 1, "-masks40", " --mask-rate 0.4 --val-mask-rate 0.2")
        T = 256; ratios(C[2], 1, 6, 2, "-rows256", " --seq-len 256")
    } else if (stage == "recipes") { recipes(all, C[2], 3); recipes(all, C[3], 3); recipes(all, C[5], 1); recipes(wide, C[3], 1) }
    else if (stage == "family") for (k = 1; k <= n; k++) {
        shape(best(1, C[k])); run("optibert", "mlm", C[k], 1, " --val-mask-rate 0.2 --mask-rate 0.2 --keep")
        shape(best(2, C[k])); run("ntp", "ntp", C[k], 1, " --keep")
    } else for (seed = 1; seed <= 3; seed++) for (k = split("10 15 40 50", r, " "); k >= 1; k--) {
        shape(best(1, C[2])); run("masks" r[k], "mlm", C[2], seed, " --mask-rate " r[k] / 100 " --val-mask-rate 0.2")
    }
}'
