/*
From loss points to pictures: fits their law as dev/fit does, and writes one HTML page that needs no script
and no other file.

    dev/plot points.csv > report.html                the page
    dev/plot points.csv --runs runs > report.html    with training curves, from runs/NAME/main.log
    dev/plot points.csv --svg figures > report.html  each plot also as a file, for a README

A figure says what is drawn: plots, which are series of marks, what they mean, and what the axes are called.
draw.c turns them into pictures. Those of mlm and ntp stand side by side on a wide screen.
*/
#ifndef PLOT_C
#define PLOT_C
#ifndef FIT_NO_MAIN
#define FIT_NO_MAIN
#endif
#include "fit.c"
#include "draw.c"
#include <dirent.h>

// ----------------------------------------------------------------------------
// what the figures share

// A figure adds its plot of n groups, one or all of a data set (see sections), if there is something to draw.
typedef void Figure(Plots *, const Group *, size_t n);

// "mlm on books", cut after `most` characters with an ellipsis.
static void group_name(char *name, size_t room, const char *objective, const char *data, size_t most) {
    snprintf(name, room, "%s%s%s", *objective ? objective : *data ? "" : "all runs",
             *objective && *data ? " on " : "", data);
    size_t i = 0;
    for (size_t n = 0; name[i] && n < most; i++) n += (name[i + 1] & 0xc0) != 0x80;
    if (name[i] && i + 4 < room) strcpy(name + i, "…");
}

// Begin a plot of n groups of one data set. In the name of its file, bytes other than letters, digits and ._-
// become ~ and two hex digits.
static Plot *add_plot(Plots *all, const char *figure, const char *title, const Group *g, size_t n,
                      const char *x_label, int x_log, const char *y_label, int y_log) {
    const char *about[] = {n == 1 ? g->objective : "", g->data};
    char name[300];
    all->plot = realloc(all->plot, (all->n + 1) * sizeof *all->plot);
    if (!all->plot) die("out of memory");
    Plot *p = all->plot[all->n++] = alloc_or_die(sizeof *p);
    *p = (Plot){.height = 230, .x_log = x_log, .y_log = y_log};
    p->caption = text_open(&p->words, &p->words_size);
    snprintf(p->x_label, sizeof p->x_label, "%s", x_label);
    snprintf(p->y_label, sizeof p->y_label, "%s", y_label);
    group_name(name, sizeof name, about[0], about[1], 42 - strlen(title));
    snprintf(p->title, sizeof p->title, "%s: %s", title, name);
    int used = snprintf(p->file, 80, "%s", figure);
    for (int part = 0; part < 2; part++) {
        if (*about[part]) p->file[used++] = '-';
        for (const char *s = about[part]; *s && used < 200; s++)
            if (isalnum((unsigned char)*s) || strchr("._-", *s)) p->file[used++] = *s;
            else used += sprintf(p->file + used, "~%02x", (unsigned char)*s);
    }
    return p;
}

// The labels of the axes. With --columns we do not know the units.
static const char *flops_label(void) {
    return reading.column[COL_F] ? reading.column[COL_F] :
           reading.with_head ? "FLOPs per token F_N + F_head" : "FLOPs per token F_N";
}

static const char *tokens_label(void) {
    return reading.column[COL_D] ? reading.column[COL_D] : "training tokens D";
}

static const char *loss_label(void) {
    return reading.column[COL_LOSS] ? reading.column[COL_LOSS] : "validation loss (nats per token)";
}

static const char *compute_label(void) {
    return reading.columns ? "C = F D" : "training compute C = F D (FLOPs)";
}

// The colour at a share of the way along the ramp.
static const char *ramp_colour(double share) {
    static const char *const name[] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"};
    return name[(int)rint(fmin(fmax(share, 0), 1) * 8)];
}

// The colour of a budget; that of the end of the list is for cells without one.
static const char *budget_colour(const Group *g, const Budget *b) {
    size_t k = (size_t)(b - g->budget);
    return k < g->n_budgets ? ramp_colour((double)k / (double)MAX(1, g->n_budgets - 1)) : "soft";
}

// The colour of the i-th of some groups.
static const char *group_colour(ptrdiff_t i) {
    static const char *const name[] = {"s0", "s1", "s2", "s3", "s4", "s5"};
    return name[i % 6];
}

// How the best split is drawn by each way.
static const char *const way_lines[N_WAYS] = {"line", "dash"};

// The name of a group beside others on the same data.
static const char *short_name(const Group *g) {
    static char name[100];
    group_name(name, sizeof name, *g->objective ? g->objective : "runs", "", 20);
    return name;
}

// The words that a browser shows for a point.
static const char *point_words(const Point *p) {
    static char text[300];
    int n = 0;
    if (p->layers > 0 && p->channels > 0) n = snprintf(text, 100, "%g×%g, ", p->layers, p->channels);
    snprintf(text + n, sizeof text - 100, "F %s, D %s, loss %s", num3(p->F), num3(p->D),
             number_text(p->loss, 5));
    return text;
}

// Has a budget's parabola a minimum that can be shown?
static int has_minimum(const Budget *b) { return b->sizes >= 3 && !b->open && !b->edge; }

// The smallest and the largest loss among the seeds of a used cell.
static Range seeds_range(const Group *g, size_t i) {
    Range r = empty_range;
    for (const Point *p = g->point; p < g->point + g->n; p++)
        if (is_sound(p) && p->cell == g->point[g->use[i]].cell) range_add(&r, p->loss);
    return r;
}

// Add a level of the loss, over all x of the plot so far; but only in words, if that would take more than a
// third of the y axis.
static void add_level(Plot *p, const char *how, double level, const char *words) {
    Range x = empty_range, y = empty_range;
    char legend[80];
    if (!(level > 0)) return;
    snprintf(legend, sizeof legend, "%s %s", words, number_text(level, 3));
    plot_ranges(p, &x, &y);
    double far = fmax(sqrt(y.hi / y.lo), 1.2);
    if (level < y.lo / far || level > y.hi * far) {
        fprintf(p->caption, "Beyond this frame: %s. ", legend);
        return;
    }
    Trace *line = add_trace(p, how, "soft", legend);
    add_mark(line, x.lo, level, NULL), add_mark(line, x.hi, level, NULL);
}

// Add the levels that losses are held against: the exact floor, if it is known, and the plateau, near which
// no run counts.
static void add_levels(Plot *p, const Group *g) {
    add_level(p, "hair", mean_floor(g), "exact floor,");
    if (!reading.all) add_level(p, "dots", 0.9 * g->plateau, "no run counts above");
}

// ----------------------------------------------------------------------------
// the best split against C

// What a plot shows: F_opt, D_opt or their ratio, which is C^C_power F_opt^F_power.
typedef struct {
    const char *file, *title, *symbol, *unit;
    double C_power, F_power;
} BestSplit;

static const BestSplit best_F = {"fopt", "best model size", "F_opt", "FLOPs per token", 0, 1};
static const BestSplit best_D = {"dopt", "best amount of data", "D_opt", "training tokens", 1, -1};
static const BestSplit best_ratio = {"ratio", "best data/model ratio", "D_opt/F_opt",
                                     "tokens per FLOP per token", 1, -2};

// mlm among the groups [*g, end) becomes *g, and ntp on the same data is returned; NULL if there is no such
// pair that has best splits and a range of C in common.
static const Group *find_pair(const Group **g, const Group *end) {
    const Group *ntp = NULL;
    while (*g < end && !(ntp = counterpart(*g, end))) ++*g;
    return ntp && !isnan(shared_budget(*g, ntp, 0)) ? ntp : NULL;
}

// What a plot shows, for a run at C with F.
static double split_of(const BestSplit *s, double C, double F) {
    return pow(C, s->C_power) * pow(F, s->F_power);
}

// What a plot shows at C by one way; its 95% interval is put into lo and hi.
static double split_at(const BestSplit *s, const Group *g, int way, double C, double *lo, double *hi) {
    double ratio[2];
    ratio_interval(g, way, NULL, 0, C, &ratio[0], &ratio[1]);
    double a = split_of(s, C, sqrt(C / ratio[0])), b = split_of(s, C, sqrt(C / ratio[1]));
    *lo = fmin(a, b), *hi = fmax(a, b);
    return split_of(s, C, split_F(g, way, C));
}

// The exponent of C that goes with it, and its interval, as text.
static const char *split_exponent(const BestSplit *s, const PowerLaw *p) {
    double x[3] = {p->exponent, p->exponent_lo, p->exponent_hi};
    for (int k = 0; k < 3; k++) x[k] = s->C_power + s->F_power * x[k];
    return interval_text(x[0], fmin(x[1], x[2]), fmax(x[1], x[2]));
}

// The range of C of the used points.
static Range range_of_C(const Group *g) {
    Range C = empty_range;
    for (size_t i = 0; i < g->n_use; i++) range_add(&C, g->C[i]);
    return C;
}

// One plot of n groups: by each way the best split as a power law, and the minima of the parabolas. The band
// belongs to the law, or to the minima where they are alone.
static void add_split(Plots *all, const BestSplit *s, const Group *g, size_t n) {
    char label[100];
    int known[N_WAYS] = {0};
    Range C = empty_range;
    for (const Group *h = g; h < g + n; h++) {
        for (int way = 0; way < N_WAYS; way++) known[way] |= !h->refused[way];
        if (h->verdict != NEITHER) range_add(&C, range_of_C(h).lo), range_add(&C, 10 * range_of_C(h).hi);
    }
    if (!known[BY_LAW] && !known[BY_MINIMA]) return;
    snprintf(label, sizeof label, reading.columns ? "%s" : "%s (%s)", s->symbol, s->unit);
    Plot *p = add_plot(all, s->file, s->title, g, n, compute_label(), 1, label, 1);
    if (known[BY_LAW]) add_trace(p, "line", "soft", "by the law");
    if (known[BY_MINIMA])
        add_trace(p, "dash", "soft", "by the minima"), add_trace(p, "dot", "soft", "a minimum");
    if (fit_opt.draws) add_trace(p, "band", "soft", "95% interval");
    for (const Group *h = g; h < g + n; h++) {
        if (h->verdict != NEITHER) fprintf(p->caption, "%s: %s ∝", short_name(h), s->symbol);
        for (int way = 0; way < N_WAYS; way++) {
            int banded = way == BY_LAW || h->refused[BY_LAW];
            if (h->refused[way]) continue;
            Trace *line = add_trace(p, way_lines[way], group_colour(h - g), "");
            line->from = range_of_C(h).lo, line->to = range_of_C(h).hi;
            if (banded) strcpy(line->name, short_name(h));
            for (int k = 0; k < SAMPLES; k++) {
                double c = sample(C.lo, C.hi, k), lo, hi, y = split_at(s, h, way, c, &lo, &hi);
                add_interval(line, c, y, banded ? lo : NAN, banded ? hi : NAN, NULL);
            }
            fprintf(p->caption, "%s C^%s by the %s", banded ? "" : ",", split_exponent(s, &h->split[way]),
                    way_names[way]);
        }
        if (h->verdict != NEITHER) fprintf(p->caption, ". ");
        Trace *minima = add_trace(p, "dot", group_colour(h - g), "");
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++)
            if (has_minimum(b)) add_mark(minima, b->C, split_of(s, b->C, b->F_opt), NULL);
    }
    fprintf(p->caption, "Pale: beyond the runs.");
}

static void figure_ratio(Plots *all, const Group *g, size_t n) { add_split(all, &best_ratio, g, n); }
static void figure_fopt(Plots *all, const Group *g, size_t n) { add_split(all, &best_F, g, n); }
static void figure_dopt(Plots *all, const Group *g, size_t n) { add_split(all, &best_D, g, n); }

// mlm's best data/model ratio over ntp's, by each way that gives both, beside what the paper says.
static void figure_quotient(Plots *all, const Group *g, size_t n) {
    const Group *ntp = find_pair(&g, g + n), *mlm = g;
    if (!ntp) return;
    double from = shared_budget(mlm, ntp, 0), to = shared_budget(mlm, ntp, RATIOS - 1);
    Plot *p = add_plot(all, "quotient", "mlm’s ratio over ntp’s", g, 2, compute_label(), 1,
                       "quotient of their D_opt/F_opt", 1);
    Trace *paper = add_trace(p, "band", "soft", "the paper: 10 to 100");
    add_interval(paper, from, 30, 10, 100, NULL), add_interval(paper, 10 * to, 30, 10, 100, NULL);
    for (int way = 0; way < N_WAYS; way++) {
        if (mlm->refused[way] || ntp->refused[way]) continue;
        Trace *line =
            add_trace(p, way_lines[way], group_colour(way + 2), way ? "by the minima" : "by the laws");
        line->from = from, line->to = to;
        for (int k = 0; k < SAMPLES; k++) {
            double C = sample(from, 10 * to, k), lo, hi;
            ratio_interval(mlm, way, ntp, way, C, &lo, &hi);
            add_interval(line, C, split_ratio(mlm, way, C) / split_ratio(ntp, way, C), lo, hi, NULL);
        }
    }
    fprintf(p->caption, "With 95%% intervals. Pale: beyond the runs of one of them.");
}

// ----------------------------------------------------------------------------
// isoFLOP curves, and what the law misses

// The used cells by size, a colour for each budget, with the parabola and the law's curve of each.
static void figure_isoflop(Plots *all, const Group *g, size_t n) {
    size_t inside = 0, off = 0;
    if (g->n_budgets == 0) return;
    Plot *p = add_plot(all, "isoflop", "isoFLOP curves", g, n, flops_label(), 1, loss_label(), -1);
    p->height = 300;
    add_trace(p, "dot", "ink", g->repeats ? "mean and range of seeds" : "run");
    if (g->has_law && !reading.with_head) add_trace(p, "dash", "ink", "law");
    if (!reading.with_head) add_trace(p, "hair", "ink", "parabola");
    int some_out = g->count[USED] + g->count[COPY] < g->n;
    Trace *out = add_trace(p, "tiny", "soft", some_out ? "left out of the law" : "");
    out->aside = 1;
    for (const Point *q = g->point; q < g->point + g->n; q++)
        if (q->verdict != USED && q->verdict != COPY) add_mark(out, q->F, q->loss, point_words(q));
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++) {
        const char *colour = budget_colour(g, b);
        double low, high;
        range_of(g->F + b->use, b->n_use, &low, &high);
        for (int law = 0; law < 2 && !reading.with_head; law++) {
            if (law ? !g->has_law : b->open || b->sizes < 3) continue;
            Trace *curve = add_trace(p, law ? "dash" : "hair", colour, "");
            for (int k = 0; k < SAMPLES; k++) {
                double F = sample(low, high, k), z = log(F) - b->center;
                double parabola = b->c[0] + z * (b->c[1] + z * b->c[2]);
                add_mark(curve, F, law ? law_loss(&g->law, F, b->C / F) : parabola, NULL);
            }
        }
        Trace *dots = add_trace(p, "dot", colour, "");
        strcpy(dots->name, number_text(b->C, 2));
        for (size_t i = b->use; i < b->use + b->n_use; i++) {
            Range seeds = seeds_range(g, i);
            add_interval(dots, g->F[i], g->loss[i], seeds.lo, seeds.hi, point_words(&g->point[g->use[i]]));
        }
        inside += (size_t)has_minimum(b), off += (size_t)(has_minimum(b) && b->off);
    }
    Trace *rings = add_trace(p, "ring", "ink", inside ? "minimum" : "");
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++)
        if (has_minimum(b)) add_mark(rings, b->F_opt, b->loss, NULL);
    add_levels(p, g);
    fprintf(p->caption, "%zu of %zu budgets have their minimum within the sizes tried", inside, g->n_budgets);
    if (off) fprintf(p->caption, ", %zu of them off centre, where parabolas are biased", off);
    if (reading.with_head) fprintf(p->caption, ". No curves: with the head, C varies within a budget");
    fprintf(p->caption, ".");
}

// The residuals of the law by distance from the best size, in the colours of the budgets.
static void figure_residuals(Plots *all, const Group *g, size_t n) {
    int way = g->refused[BY_MINIMA] ? BY_LAW : BY_MINIMA;
    Range x = empty_range;
    if (!g->has_law) return;
    Plot *p = add_plot(all, "residuals", "what the law misses", g, n,
                       g->refused[way] ? flops_label() : "model size over the best one, F/F_opt", 1,
                       "measured loss over the law’s, %", 0);
    Trace *dots = add_trace(p, "dot", "ink", g->repeats ? "mean and range of seeds" : "run");
    for (size_t i = 0; i < g->n_use; i++) {
        double best = g->refused[way] ? 1 : split_F(g, way, g->C[i]);
        double law = law_loss(&g->law, g->F[i], g->D[i]);
        Range seeds = seeds_range(g, i);
        const Budget *b = g->budget;
        while (b < g->budget + g->n_budgets && i - b->use >= b->n_use) b++; // one ends where another begins
        range_add(&x, g->F[i] / best);
        Mark *m = add_interval(dots, g->F[i] / best, 100 * residual(g, i), 100 * log(seeds.lo / law),
                               100 * log(seeds.hi / law), point_words(&g->point[g->use[i]]));
        m->colour = budget_colour(g, b);
    }
    Trace *noise = add_trace(p, "band", "soft", g->repeats ? "noise of a seed" : "");
    for (int end = 0; end < 2 && g->repeats; end++)
        add_interval(noise, end ? x.hi : x.lo, 0, -100 * g->noise, 100 * g->noise, NULL);
    Trace *zero = add_trace(p, "hair", "ink", "");
    add_mark(zero, x.lo, 0, NULL), add_mark(zero, x.hi, 0, NULL);
    fprintf(p->caption, "Root-mean-square %s%%", number_text(100 * root_mean_square(g), 2));
    if (g->repeats) fprintf(p->caption, "; seeds differ by %s%%", number_text(100 * g->noise, 2));
    fprintf(p->caption, g->n_budgets ? ". Colours are those of the budgets." : ".");
}

// ----------------------------------------------------------------------------
// the loss surface

// The point on the line of equal loss `level` where A/F^alpha and B/D^beta divide the loss above E at these
// log odds.
static void iso_loss(const Law *law, double level, double odds, double *F, double *D) {
    *F = pow(law->A * (1 + exp(-odds)) / (level - law->E), 1 / law->alpha);
    *D = pow(law->B * (1 + exp(odds)) / (level - law->E), 1 / law->beta);
}

// Levels from lo to hi, evenly spaced in the log of the loss above E, and rounded to as few digits as tell
// them apart.
enum { LEVELS = 7 };
static void iso_levels(double level[LEVELS], double E, double lo, double hi) {
    for (int digits = 2, apart = 0; !apart && digits < 8; digits++) {
        apart = 1;
        for (int k = 0; k < LEVELS; k++) {
            char text[32];
            double exact = E + (lo - E) * pow((hi - E) / (lo - E), k / (LEVELS - 1.0));
            snprintf(text, sizeof text, "%.*e", digits - 1, exact);
            level[k] = atof(text);
            apart &= k == 0 || level[k] > level[k - 1];
        }
    }
}

// The used cells by F and D, in the colours of their losses; lines of equal loss and of equal C; best splits.
static void figure_surface(Plots *all, const Group *g, size_t n) {
    const Law *law = &g->law;
    double low, high, level[LEVELS];
    Range C = range_of_C(g);
    if (!g->has_law) return;
    range_of(g->loss, g->n_use, &low, &high);
    double above = fmax(low - law->E, 0.02 * (high - law->E)); // with noise a loss may be below E
    Plot *p = add_plot(all, "surface", "loss surface", g, n, flops_label(), 1, tokens_label(), 1);
    iso_levels(level, law->E, law->E + above, high);
    for (int i = 0; i < LEVELS && !g->refused[BY_LAW]; i++) {
        Trace *line = add_trace(p, "hair", ramp_colour(1 - i / (LEVELS - 1.0)),
                                i == LEVELS / 2 ? "equal loss (law)" : "");
        line->aside = 1;
        strcpy(line->name, number_text(level[i], 6));
        for (int k = 0; k < 4 * SAMPLES && level[i] > law->E; k++) {
            double F, D;
            iso_loss(law, level[i], 14 - 28 * k / (4 * SAMPLES - 1.0), &F, &D);
            add_mark(line, F, D, NULL);
        }
    }
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++) {
        Trace *equal = add_trace(p, "dots", "soft", b == g->budget ? "equal C" : "");
        equal->aside = 1;
        add_mark(equal, 1, b->C, NULL), add_mark(equal, b->C, 1, NULL);
    }
    for (int way = 0; way < N_WAYS; way++) {
        if (g->refused[way]) continue;
        Trace *line = add_trace(p, way_lines[way], "ink", way ? "best by the minima" : "best by the law");
        line->aside = 1, line->from = split_F(g, way, C.lo), line->to = split_F(g, way, C.hi);
        for (int k = 0; k < SAMPLES; k++) {
            double c = sample(C.lo / 1e3, C.hi * 1e3, k);
            add_mark(line, split_F(g, way, c), c / split_F(g, way, c), NULL);
        }
        fprintf(p->caption, "By the %s: for ten times the compute, %s times the F and %s times the D. ",
                way_names[way], number_text(pow(10, g->split[way].exponent), 2),
                number_text(pow(10, 1 - g->split[way].exponent), 2));
    }
    Trace *dots = add_trace(p, "dot", "r4", "run");
    for (size_t i = 0; i < g->n_use; i++) {
        double share = log((high - law->E) / fmax(g->loss[i] - law->E, above)) / log((high - law->E) / above);
        add_mark(dots, g->F[i], g->D[i], point_words(&g->point[g->use[i]]))->colour = ramp_colour(share);
    }
    if (g->refused[BY_LAW]) fprintf(p->caption, "By the law: %s.", g->refused[BY_LAW]);
}

// ----------------------------------------------------------------------------
// learning rate and batch

// The best rates or batches of the budgets where several were tried, and all the others; and a power law
// through those that are not at an edge of what was tried.
static void add_rates(Plots *all, int of_batch, const Group *g, size_t n) {
    size_t offset = of_batch ? offsetof(Point, batch_tokens) : offsetof(Point, lr);
    Plot *p = NULL;
    for (const Group *h = g; h < g + n; h++) {
        double C[h->n_budgets + 1], best[h->n_budgets + 1], use[h->n_budgets + 1];
        size_t several = 0;
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++) {
            if ((of_batch ? b->batches : b->lrs) < 2) continue;
            C[several] = b->C, best[several] = of_batch ? b->batch_tokens : b->lr;
            use[several++] = !(of_batch ? b->batch_edge : b->lr_edge);
        }
        if (several < 2) continue; // one budget shows no trend
        if (!p) {
            p = add_plot(all, of_batch ? "batch" : "lr", of_batch ? "best batch" : "best learning rate", g, n,
                         compute_label(), 1, of_batch ? "batch (tokens per step)" : "peak learning rate", 1);
            add_trace(p, "dot", "soft", "best"), add_trace(p, "ring", "soft", "best, but at an edge");
            add_trace(p, "tiny", "soft", "run"), add_trace(p, "line", "soft", "power law");
        }
        double aside = 1 + 0.06 * ((double)(h - g) - (double)(n - 1) / 2); // objectives side by side
        Trace *tried = add_trace(p, "tiny", group_colour(h - g), "");
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++)
            for (const Point *q = h->point + b->first; q < h->point + b->first + b->n; q++)
                if (q->F == b->F && (of_batch ? b->batches : b->lrs) > 1)
                    add_mark(tried, b->C * aside, point_number(q, offset), point_words(q));
        for (size_t k = 0; k < several; k++) {
            Trace *found = add_trace(p, use[k] ? "dot" : "ring", group_colour(h - g), "");
            add_mark(found, C[k] * aside, best[k], NULL);
        }
        PowerLaw law = power_law(C, best, use, several);
        Trace *line = add_trace(p, "line", group_colour(h - g), "");
        strcpy(line->name, short_name(h));
        for (int k = 0; k < SAMPLES && law.n > 1; k++) {
            double c = sample(C[0], C[several - 1], k);
            add_mark(line, c, power_at(&law, c), NULL);
        }
        fprintf(p->caption, "%s: ", short_name(h));
        if (law.n > 1)
            fprintf(p->caption, "∝ C^%s from %zu budgets, %s at C = %s. ", number_text(law.exponent, 2),
                    law.n, number_text(power_at(&law, C[several - 1]), 2), num3(C[several - 1]));
        else fprintf(p->caption, "no power law; it needs two budgets whose best is not at an edge. ");
    }
}

static void figure_rates(Plots *all, const Group *g, size_t n) { add_rates(all, 0, g, n); }
static void figure_batches(Plots *all, const Group *g, size_t n) { add_rates(all, 1, g, n); }

// ----------------------------------------------------------------------------
// training curves

enum { MAX_CURVES = 8, BINS = 140 };

// The log of a run, and how it ends: after this step, with this validation loss.
typedef struct {
    char *path;
    double steps, val;
} RunLog;

static RunLog *logs; // (n_logs) --runs
static size_t n_logs;

// Find all DIR/NAME/main.log.
static void find_logs(const char *dir) {
    struct dirent *entry;
    DIR *d = opendir(dir);
    if (!d) die("--runs %s: cannot read this folder: %s", dir, strerror(errno));
    while ((entry = readdir(d))) {
        char path[PATH_MAX], line[256];
        RunLog log = {.steps = NAN, .val = NAN};
        struct stat st;
        if (snprintf(path, sizeof path, "%s/%s/main.log", dir, entry->d_name) >= (int)sizeof path) continue;
        FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "r") : NULL;
        if (!f) continue;
        while (fgets(line, sizeof line, f)) sscanf(line, "s:%lf tel:%lf", &log.steps, &log.val);
        fclose(f);
        logs = realloc(logs, (n_logs + 1) * sizeof *logs);
        if (!logs || !(log.path = strdup(path))) die("out of memory");
        logs[n_logs++] = log;
    }
    closedir(d);
}

// The log that ends as a point does (logs have six decimals), or NULL.
static const char *find_log(const Point *p) {
    for (size_t i = 0; i < n_logs; i++)
        if (logs[i].steps == p->steps && fabs(logs[i].val - p->loss) < 1e-6) return logs[i].path;
    return NULL;
}

// Add a run's curve: the mean training loss in each of BINS equal parts, in log, of the tokens from lo to hi.
static void read_curve(Trace *s, const char *path, double batch, double lo, double hi) {
    char line[256];
    double sum[BINS] = {0}, count[BINS] = {0}, step, trl;
    FILE *f = fopen(path, "r");
    if (!f) die("%s: cannot read: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "s:%lf trl:%lf", &step, &trl) != 2 || !(trl > 0) || !(step > 0)) continue;
        double bin = fmin(floor(BINS * log(step * batch / lo) / log(hi / lo)), BINS - 1);
        if (bin >= 0) sum[(int)bin] += trl, count[(int)bin]++;
    }
    fclose(f);
    for (int k = 0; k < BINS; k++)
        if (count[k] > 0) add_mark(s, lo * pow(hi / lo, (k + 0.5) / BINS), sum[k] / count[k], NULL);
}

// One curve for each size, from the largest budget whose runs have logs.
static void figure_curves(Plots *all, const Group *g, size_t n) {
    const Point *run[1000];
    Range D = empty_range;
    size_t sizes = 0;
    for (size_t k = g->n_budgets; k-- > 0 && sizes == 0;)
        for (size_t i = g->budget[k].use; i < g->budget[k].use + g->budget[k].n_use && sizes < 1000; i++) {
            const Point *q = &g->point[g->use[i]];
            if (q->batch_tokens > 0 && find_log(q)) run[sizes++] = q, range_add(&D, q->D);
        }
    if (sizes == 0) return;
    Plot *p = add_plot(all, "curves", "training curves", g, n, "tokens trained on", 1,
                       "training loss (nats per token)", -1);
    size_t shown = MIN(sizes, MAX_CURVES);
    add_trace(p, "hair", "ink", "training loss"), add_trace(p, "dot", "ink", "validation loss, at the end");
    for (size_t k = 0; k < shown; k++) {
        const Point *q = run[shown < sizes ? k * (sizes - 1) / (shown - 1) : k];
        const char *colour = ramp_colour((double)k / (double)MAX(1, shown - 1));
        read_curve(add_trace(p, "hair", colour, ""), find_log(q), q->batch_tokens, D.lo / 50, D.hi);
        Trace *end = add_trace(p, "dot", colour, "");
        add_mark(end, q->D, q->loss, point_words(q));
        if (q->layers > 0) sprintf(end->name, "%g×%g", q->layers, q->channels);
        else sprintf(end->name, "F %s", num3(q->F));
    }
    add_levels(p, g);
    fprintf(p->caption, "%zu of %zu sizes at C = %s.", shown, sizes, num3(run[0]->C));
}

// ----------------------------------------------------------------------------
// the page

static const char page_style[] =
    "body{margin:0 auto;max-width:1080px;padding:8px 14px 40px;background:var(--bg);color:var(--ink);\n"
    "font:16px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;\n"
    "overflow-wrap:anywhere}h1{font-size:25px;margin:22px 0 4px}h2{font-size:19px;margin:34px 0 2px}\n"
    "h3{font-size:16px;margin:14px 0 4px}p{margin:4px 0;max-width:52em}.lead{font-size:18px}\n"
    "sup,sub{line-height:0}figcaption,li{color:var(--soft);font-size:14px;line-height:1.6}\n"
    ".warning{color:var(--ink)}\n"
    ".plots{display:grid;grid-template-columns:minmax(0,1fr);gap:16px 28px;align-items:start}\n"
    "@media(min-width:800px){.plots{grid-template-columns:repeat(2,minmax(0,1fr))}\n"
    ".c1{grid-column:1}.c2{grid-column:2}}\n"
    "figure{margin:8px 0 0}figure>svg{display:block;width:100%;height:auto}figcaption{padding:2px 10px}\n"
    "ul{margin:6px 0;padding-left:18px}th:first-child{text-align:left}\n"
    "table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:right;white-space:nowrap;padding:3px 12px 3px 0;border-bottom:1px solid var(--grid)}\n";

static const struct {
    const char *heading, *words;
    int together; // all groups of a data set in one plot
    Figure *figure[2];
} sections[] = {
    {"", "", 1, {figure_quotient, figure_ratio}},
    {"Loss against model size",
     "Each colour is one compute budget, spent on models of different sizes; its number of FLOPs stands at "
     "its end. The best size is where the curve is lowest.", 0, {figure_isoflop, figure_residuals}},
    {"The best model size and amount of data",
     "How F and D of the best run grow with compute, by the law and by the minima of the parabolas alone.",
     1, {figure_fopt, figure_dopt}},
    {"The loss surface", "Each point is a run, in the colour of its loss.", 0, {figure_surface, NULL}},
    {"Learning rate and batch",
     "All runs at the best size of each compute budget, and the geometric mean of those within 0.25% of the "
     "lowest loss.", 1, {figure_rates, figure_batches}},
    {"Training curves", "From the largest compute budget whose runs have logs.", 0, {figure_curves, NULL}},
};
enum { N_SECTIONS = sizeof sections / sizeof *sections };

// The finding of one data set in a sentence: the quotient of the two objectives, or how the best split grows.
static void put_lead(FILE *html, const Group *g, size_t n) {
    char *text;
    size_t size;
    const Group *mlm = g, *ntp = find_pair(&mlm, g + n);
    FILE *f = text_open(&text, &size);
    int said = 0;
    for (int way = 0; way < N_WAYS && ntp; way++) {
        if (mlm->refused[way] || ntp->refused[way]) continue;
        fprintf(f, said ? "; by the minima " : "By the %s, mlm’s best data/model ratio is ",
                way ? "minima" : "laws");
        for (int end = 0; end < 2; end++) {
            double C = shared_budget(mlm, ntp, end * (RATIOS - 1)), lo, hi;
            double quotient = split_ratio(mlm, way, C) / split_ratio(ntp, way, C);
            ratio_interval(mlm, way, ntp, way, C, &lo, &hi);
            fprintf(f, "%s%s", end ? " and " : "", interval_text(quotient, lo, hi));
            if (!said) fprintf(f, end ? " times at %s" : " times ntp’s at C = %s", num3(C));
        }
        said = 1;
    }
    if (said) fprintf(f, ". The paper says 10 to 100. ");
    for (const Group *h = g; h < g + n; h++) {
        int ways = 0;
        if (!said && n > 1) fprintf(f, "%s: ", short_name(h));
        for (int way = 0; way < N_WAYS && !said; way++) {
            const PowerLaw *p = &h->split[way];
            double tenfold = pow(10, p->exponent), lo = pow(10, p->exponent_lo), hi = pow(10, p->exponent_hi);
            if (h->refused[way]) continue;
            fprintf(f, ways++ ? "; by the %s %s and %s times" :
                    "For ten times the compute, by the %s take %s times the model and %s times the data",
                    way_names[way], interval_text(tenfold, lo, hi),
                    interval_text(10 / tenfold, 10 / hi, 10 / lo));
        }
        if (ways) fprintf(f, ". ");
        else if (!said) fprintf(f, "No best split, by the law since %s, and by the minima since %s. ",
                                h->refused[BY_LAW], h->refused[BY_MINIMA]);
        if (h->verdict == DISAGREE)
            fprintf(f, "Law and minima of %s do not agree, so at most one of them is right. ",
                    short_name(h));
    }
    text_close(f);
    fputs("<p class=\"lead\">", html), put_rich(html, text, 0), fputs("</p>\n", html);
    free(text);
}

// Put the lines that `print` writes on the page, as items of a list.
static void put_report(FILE *html, const Group *g, void (*print)(FILE *, const Group *)) {
    char *text, *save = NULL;
    size_t size;
    FILE *f = text_open(&text, &size);
    print(f, g);
    text_close(f);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        line += strspn(line, " ");
        fputs(strncmp(line, "warning", 7) ? "<li>" : "<li class=\"warning\">", html);
        put_rich(html, line, 0), fputs("</li>\n", html);
    }
    free(text);
}

// Put the law of a group on the page, and what it is based on.
static void put_numbers(FILE *html, const Group *g) {
    static const char *const names[N_LAW] = {"E", "A", "B", "α", "β", "", "a", "b", "G"};
    const Fix *fix = &fit_opt.fixed;
    const double given[N_LAW] = {fix->E, NAN, NAN, fix->alpha, fix->beta, NAN, NAN, NAN, NAN};
    char name[400];
    group_name(name, sizeof name, g->objective, g->data, 90);
    fputs("<div>\n<h3>", html), put_escaped(html, name, strlen(name)), fputs("</h3>\n", html);
    if (g->has_law) fputs("<table>\n<tr><th></th><th>value (95% interval)</th></tr>\n", html);
    for (int k = 0; g->has_law && k < N_LAW; k++) {
        int free = isnan(given[k]);
        if (k == LAW_HUBER) continue;
        fprintf(html, "<tr><th>%s</th><td>%s%s</td></tr>\n", names[k], free ? "" : "given: ",
                interval_text(g->law.v[k], free ? g->lo.v[k] : NAN, g->hi.v[k]));
    }
    fprintf(html, "%s<ul>\n", g->has_law ? "</table>\n" : "");
    put_report(html, g, print_verdict);
    if (g->has_law) put_report(html, g, print_checks);
    put_report(html, g, print_points), put_report(html, g, print_warnings);
    fputs("</ul>\n</div>\n", html);
}

// Put all that there is about one data set on the page.
static void put_data(const Page *page, const Group *g, size_t n) {
    FILE *html = page->html;
    char name[400], both[300];
    snprintf(both, sizeof both, n == 2 ? "%s and %s" : "%s", n > 2 ? "" : g->objective, g[n - 1].objective);
    group_name(name, sizeof name, both, g->data, 90);
    fputs("<h1>", html), put_escaped(html, name, strlen(name)), fputs("</h1>\n", html);
    put_lead(html, g, n);
    for (int k = 0; k < N_SECTIONS; k++) {
        Plots plots = {0};
        size_t at_once = sections[k].together ? n : 1;
        for (int i = 0; i < 2 && sections[k].figure[i]; i++)
            for (size_t j = 0; j < n; j += at_once) {
                size_t before = plots.n;
                sections[k].figure[i](&plots, &g[j], at_once);
                if (plots.n > before && at_once < n) plots.plot[before]->column = 1 + (int)(j % 2);
            }
        if (plots.n == 0) continue;
        if (*sections[k].heading)
            fprintf(html, "<h2>%s</h2>\n<p>%s</p>\n", sections[k].heading, sections[k].words);
        fputs("<div class=\"plots\">\n", html), draw(page, &plots), fputs("</div>\n", html);
    }
    fprintf(html, "<h2>The numbers, and what they rest on</h2>\n<p>L(F, D) = E + A/F<sup>α</sup> + "
            "B/D<sup>β</sup>, where F is the %s of the model%s, D the training %s, and C = F D the compute. "
            "The best split is F<sub>opt</sub> = G C<sup>a</sup> and D<sub>opt</sub> = C<sup>b</sup>/G, with "
            "a = β/(α+β) and b = α/(α+β). The intervals come from a bootstrap.</p>\n<div class=\"plots\">\n",
            reading.columns ? "size" : "training FLOPs per token", reading.with_head ? " with its head" : "",
            reading.columns ? "data" : "tokens");
    for (size_t i = 0; i < n; i++) put_numbers(html, &g[i]);
    fputs("</div>\n", html);
}

// Write the page: one data set after the other.
static void put_page(const Page *page, const Fit *fit) {
    fprintf(page->html, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>Scaling law of %zu runs</title>\n"
            "<style>\n%s%s</style>\n</head>\n<body>\n", fit->points, plot_style, page_style);
    for (size_t i = 0, n; i < fit->n; i += n) {
        const Group *g = &fit->group[i];
        for (n = 1; i + n < fit->n && !strcmp(g[n].data, g->data);) n++;
        put_data(page, g, n);
    }
    fputs("</body>\n</html>\n", page->html);
}

typedef struct {
    FitSettings fit; // first, so that the offsets in fit_options are right
    const char *svg, *runs;
} PlotSettings;

#define TO(field) .offset = offsetof(PlotSettings, field)
static Option plot_options[2 + sizeof fit_options / sizeof *fit_options] = {
    {"svg", TEXT, FREE, TO(svg), 0, 0, "DIR", "write each plot also as DIR/FIGURE-OBJECTIVE-DATA.svg"},
    {"runs", TEXT, FREE, TO(runs), 0, 0, "DIR",
     "training curves from DIR/NAME/main.log of the points' runs (runs)"},
}; // plot_main adds those of dev/fit
#undef TO

int plot_main(int argc, char **argv) {
    PlotSettings s = {.fit = fit_opt};
    Page page = {0};
    char *text;
    size_t size, n = 2;
    program = "plot";
    for (const Option *o = fit_options; o->name; o++)
        if (strcmp(o->name, "json") && strcmp(o->name, "predict") && strcmp(o->name, "hours") &&
            strcmp(o->name, "residuals")) plot_options[n++] = *o;
    parse_options(plot_options, &s, argc, argv);
    fit_opt = s.fit, page.dir = s.svg;
    if (fit_opt.help) {
        printf("usage: plot POINTS… [--option value …] > report.html\n\n"
               "Fit a scaling law to the runs in CSV files, and draw it.\n\n");
        print_options(plot_options);
        fputs(fit_notes, stdout);
        return 0;
    }
    settle_fit_settings();
    if (s.runs || access("runs/.", R_OK) == 0) find_logs(s.runs ? s.runs : "runs");
    Fit fit = read_files(&fit_opt.points);
    for (size_t i = 0; i < fit.n; i++) fit_group(&fit.group[i]);
    if (page.dir && mkdir(page.dir, 0777) && errno != EEXIST)
        die("--svg %s: cannot make this folder: %s", page.dir, strerror(errno));
    page.html = text_open(&text, &size); // so that a page is printed whole or not at all
    put_page(&page, &fit);
    text_close(page.html);
    fwrite(text, 1, size, stdout);
    free(text);
    return 0;
}

#ifndef PLOT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    set_threads(0);
    return close_stdout(plot_main(argc, argv));
}
#endif
#endif
