/*
From loss points to pictures: fits their law as dev/fit does, and writes one HTML page that needs no script
and no other file.

    dev/plot points.csv > report.html                the page
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
    all->plot = make_room(all->plot, all->n, sizeof *all->plot);
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

static const char *flops_label(void) {
    const char *known = reading.with_head ? "FLOPs per token F_N + F_head" : "FLOPs per token F_N";
    return reading.column[COL_F] ?: known;
}

static const char *loss_label(void) { return reading.column[COL_LOSS] ?: "validation loss (nats per token)"; }

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

// How the best split is drawn by each way, and what the legend calls it.
static const char *const way_lines[N_WAYS] = {"line", "dash"};
static const char *const way_legends[N_WAYS] = {"by the law", "by the minima"};

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

// Add a level that losses are held against, over all x of the plot so far; but only in words, if that would
// take more than a third of the y axis.
static void add_level(Plot *p, const char *how, double level, const char *words) {
    Range x = empty_range, y = empty_range;
    char legend[80];
    if (!(level > 0)) return;
    snprintf(legend, sizeof legend, "%s %s", words, num3(level));
    plot_ranges(p, &x, &y);
    double far = fmax(sqrt(y.hi / y.lo), 1.2);
    if (level < y.lo / far || level > y.hi * far) fprintf(p->caption, "Beyond this frame: %s. ", legend);
    else add_rule(add_trace(p, how, "soft", legend), x, level, 0);
}

// ----------------------------------------------------------------------------
// the best split against C

// mlm among the groups [*g, end) becomes *g, and ntp on the same data is returned; NULL if there is no such
// pair that has best splits and a range of C in common.
static const Group *find_pair(const Group **g, const Group *end) {
    const Group *ntp = NULL;
    while (*g < end && !(ntp = counterpart(*g, end))) ++*g;
    return ntp && !isnan(shared_budget(*g, ntp, 0)) ? ntp : NULL;
}

// The best data/model ratio of n groups: by each way as a power law, and at the minima of the parabolas. The
// band belongs to the law, or to the minima where they are alone.
static void figure_ratio(Plots *all, const Group *g, size_t n) {
    int known[N_WAYS] = {0};
    Range C = empty_range;
    for (const Group *h = g; h < g + n; h++) {
        for (int way = 0; way < N_WAYS; way++) known[way] |= !h->refused[way];
        if (h->verdict != NEITHER) range_add(&C, h->C_min), range_add(&C, 10 * h->C_max);
    }
    if (!known[BY_LAW] && !known[BY_MINIMA]) return;
    Plot *p = add_plot(all, "ratio", "best data/model ratio", g, n, compute_label(), 1,
                       reading.columns ? "D_opt/F_opt" : "D_opt/F_opt (tokens per FLOP per token)", 1);
    for (int way = 0; way < N_WAYS; way++)
        if (known[way]) add_trace(p, way_lines[way], "soft", way_legends[way]);
    if (known[BY_MINIMA]) add_trace(p, "dot", "soft", "a minimum");
    if (fit_opt.draws) add_trace(p, "band", "soft", "95% interval");
    for (const Group *h = g; h < g + n; h++) {
        if (h->verdict != NEITHER) fprintf(p->caption, "%s: F_opt ∝", short_name(h));
        for (int way = 0; way < N_WAYS; way++) {
            const PowerLaw *split = &h->split[way];
            int banded = way == BY_LAW || h->refused[BY_LAW];
            if (h->refused[way]) continue;
            Trace *line = add_trace(p, way_lines[way], group_colour(h - g), "");
            line->from = h->C_min, line->to = h->C_max;
            if (banded) strcpy(line->name, short_name(h));
            for (int k = 0; k < SAMPLES; k++) {
                double c = sample(C.lo, C.hi, k), lo, hi, y = ratio_interval(h, way, NULL, 0, c, &lo, &hi);
                add_interval(line, c, y, banded ? lo : NAN, banded ? hi : NAN, NULL);
            }
            fprintf(p->caption, "%s C^%s %s", banded ? "" : ",",
                    interval_text(split->exponent, split->exponent_lo, split->exponent_hi), way_legends[way]);
        }
        if (h->verdict != NEITHER) fprintf(p->caption, ". ");
        Trace *minima = add_trace(p, "dot", group_colour(h - g), "");
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++)
            if (has_minimum(b)) add_mark(minima, b->C, b->D_opt / b->F_opt, NULL);
    }
    fprintf(p->caption, "Pale: beyond the runs.");
}

// mlm's best data/model ratio over ntp's, by each way that gives both, beside what the paper says.
static void figure_quotient(Plots *all, const Group *g, size_t n) {
    const Group *ntp = find_pair(&g, g + n), *mlm = g;
    if (!ntp) return;
    double from = shared_budget(mlm, ntp, 0), to = shared_budget(mlm, ntp, RATIOS - 1), lo, hi;
    Plot *p = add_plot(all, "quotient", "mlm’s ratio over ntp’s", g, 2, compute_label(), 1,
                       "quotient of their D_opt/F_opt", 1);
    Trace *paper = add_trace(p, "band", "soft", "the paper: 10 to 100");
    add_interval(paper, from, 30, 10, 100, NULL), add_interval(paper, 10 * to, 30, 10, 100, NULL);
    for (int way = 0; way < N_WAYS; way++) {
        if (mlm->refused[way] || ntp->refused[way]) continue;
        Trace *line = add_trace(p, way_lines[way], group_colour(way + 2), way_legends[way]);
        line->from = from, line->to = to;
        for (int k = 0; k < SAMPLES; k++) {
            double C = sample(from, 10 * to, k), quotient = ratio_interval(mlm, way, ntp, way, C, &lo, &hi);
            add_interval(line, C, quotient, lo, hi, NULL);
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
        Range sizes = range_of(g->F + b->use, b->n_use);
        for (int law = 0; law < 2 && !reading.with_head; law++) {
            if (law ? !g->has_law : b->open || b->sizes < 3) continue;
            Trace *curve = add_trace(p, law ? "dash" : "hair", colour, "");
            for (int k = 0; k < SAMPLES; k++) {
                double F = sample(sizes.lo, sizes.hi, k), z = log(F) - b->center;
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
    add_level(p, "hair", mean_floor(g), "exact floor,");
    if (!reading.all) add_level(p, "dots", 0.9 * g->plateau, "no run counts above");
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
        double size = g->F[i] / (g->refused[way] ? 1 : split_F(g, way, g->C[i]));
        double law = law_loss(&g->law, g->F[i], g->D[i]);
        Range seeds = seeds_range(g, i);
        const Budget *b = g->budget;
        while (b < g->budget + g->n_budgets && i - b->use >= b->n_use) b++; // one ends where another begins
        range_add(&x, size);
        Mark *m = add_interval(dots, size, 100 * residual(g, i), 100 * log(seeds.lo / law),
                               100 * log(seeds.hi / law), point_words(&g->point[g->use[i]]));
        m->colour = budget_colour(g, b);
    }
    if (g->repeats) add_rule(add_trace(p, "band", "soft", "noise of a seed"), x, 0, 100 * g->noise);
    add_rule(add_trace(p, "hair", "ink", ""), x, 0, 0);
    fprintf(p->caption, "Root-mean-square %s%%", number_text(100 * root_mean_square(g), 2));
    if (g->repeats) fprintf(p->caption, "; seeds differ by %s%%", number_text(100 * g->noise, 2));
    fprintf(p->caption, g->n_budgets ? ". Colours are those of the budgets." : ".");
}

// ----------------------------------------------------------------------------
// learning rate and batch

// The best rates or batches of the budgets where several were tried, and all the others; and a power law
// through those that are not at an edge of what was tried.
static void add_rates(Plots *all, int of_batch, const Group *g, size_t n) {
    size_t offset = of_batch ? offsetof(Point, batch_tokens) : offsetof(Point, lr);
    Plot *p = NULL;
    for (const Group *h = g; h < g + n; h++) {
        double C[h->n_budgets + 1], best[h->n_budgets + 1], inside[h->n_budgets + 1];
        const Budget *of[h->n_budgets + 1];
        size_t several = 0;
        for (const Budget *b = h->budget; b < h->budget + h->n_budgets; b++) {
            if ((of_batch ? b->batches : b->lrs) < 2) continue;
            of[several] = b, C[several] = b->C, best[several] = of_batch ? b->batch_tokens : b->lr;
            inside[several++] = !(of_batch ? b->batch_edge : b->lr_edge);
        }
        if (several < 2) continue; // one budget shows no trend
        if (!p) {
            p = add_plot(all, of_batch ? "batch" : "lr", of_batch ? "best batch" : "best learning rate", g, n,
                         compute_label(), 1, of_batch ? "batch (tokens per step)" : "peak learning rate", 1);
            add_trace(p, "dot", "soft", "best"), add_trace(p, "ring", "soft", "best, but at an edge");
            add_trace(p, "tiny", "soft", "run"), add_trace(p, "line", "soft", "power law");
        }
        double aside = 1 + 0.06 * ((double)(h - g) - (double)(n - 1) / 2); // objectives side by side
        const char *colour = group_colour(h - g);
        Trace *tried = add_trace(p, "tiny", colour, "");
        for (size_t k = 0; k < several; k++)
            for (const Point *q = h->point + of[k]->first; q < h->point + of[k]->first + of[k]->n; q++)
                if (q->F == of[k]->F) add_mark(tried, C[k] * aside, point_number(q, offset), point_words(q));
        for (size_t k = 0; k < several; k++)
            add_mark(add_trace(p, inside[k] ? "dot" : "ring", colour, ""), C[k] * aside, best[k], NULL);
        PowerLaw law = power_law(C, best, inside, several);
        Trace *line = add_trace(p, "line", colour, "");
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
// scores against compute

// A row of dev/eval's --scores, in percent; and one made for the validation loss of each mlm, in nats.
typedef struct {
    char model[80], weights[40], kind[40], metric[40], objective[40], stage[40];
    double value, lo, hi, C, F, D, loss;
} ScoreRow;

static const char loss_kind[] = "validation loss";

// Read the rows of models whose C is known.
static ScoreRow *read_scores(const char *path, size_t *n) {
    FILE *f = fopen(path, "r");
    char line[1000];
    ScoreRow *row = NULL;
    if (!f) die("%s: %s", path, strerror(errno));
    if (!fgets(line, sizeof line, f) || strncmp(line, "model,weights,task,kind,metric,value,", 37))
        die("%s: is not a file of scores; write one with dev/eval --scores", path);
    for (*n = 0; fgets(line, sizeof line, f);) {
        ScoreRow r = {.loss = NAN};
        if (sscanf(line, "%79[^,],%39[^,],%*[^,],%39[^,],%39[^,],%lf,%lf,%lf,"
                         "%39[^,],%lf,%lf,%lf,%39[^,\n],%lf", r.model, r.weights, r.kind, r.metric, &r.value,
                   &r.lo, &r.hi, r.objective, &r.C, &r.F, &r.D, r.stage, &r.loss) < 12) continue;
        r.value *= 100, r.lo *= 100, r.hi *= 100;
        row = make_room(row, *n, sizeof *row), row[(*n)++] = r;
        if (isnan(r.loss) || strcmp(r.objective, "mlm") || strcmp(r.weights, "trained")) continue;
        const ScoreRow *known = row;
        while (known < row + *n && (strcmp(known->model, r.model) || strcmp(known->kind, loss_kind))) known++;
        if (known < row + *n) continue;
        r.value = r.lo = r.hi = r.loss;
        strcpy(r.kind, loss_kind), strcpy(r.metric, "nats per token"), strcpy(r.stage, "pretrained");
        row = make_room(row, *n, sizeof *row), row[(*n)++] = r;
    }
    fclose(f);
    if (*n == 0) die("%s: no model's compute is known; score folders of finished runs", path);
    return row;
}

static int same_kind(const ScoreRow *a, const ScoreRow *b) {
    return !strcmp(a->kind, b->kind) && !strcmp(a->metric, b->metric) && !strcmp(a->stage, b->stage);
}

static int same_line(const ScoreRow *a, const ScoreRow *b) {
    return !strcmp(a->weights, b->weights) && !strcmp(a->objective, b->objective);
}

// Add the mean over all tasks of one kind to a series: that at the C of row r, or of its model alone at the
// data/model ratio. The tasks are independent, so their half intervals add in squares.
static void add_mean(Trace *s, const ScoreRow *row, size_t n, const ScoreRow *r, int alone) {
    double sum = 0, lo = 0, hi = 0, tasks = 0;
    for (const ScoreRow *q = row; q < row + n; q++)
        if (same_kind(q, r) && same_line(q, r) && q->C == r->C && !(alone && strcmp(q->model, r->model)))
            tasks++, sum += q->value, lo += pow(q->value - q->lo, 2), hi += pow(q->hi - q->value, 2);
    sum /= tasks, lo = sum - sqrt(lo) / tasks, hi = sum + sqrt(hi) / tasks;
    add_interval(s, alone ? r->D / r->F : r->C, sum, lo, hi, alone ? r->model : r->weights);
}

// Add the line of row r: what models of one objective score with the same weights, by ascending C.
static void add_score_line(Plot *p, const ScoreRow *row, size_t n, const ScoreRow *r, const char *how,
                           const char *colour) {
    Trace line = {0}, *to;
    for (const ScoreRow *next = row; next;) {
        double last = line.n ? line.mark[line.n - 1].x : 0;
        next = NULL;
        for (const ScoreRow *q = row; q < row + n; q++)
            if (same_kind(q, r) && same_line(q, r) && q->C > last && (!next || q->C < next->C)) next = q;
        if (next) add_mean(&line, row, n, next, 0);
    }
    to = add_trace(p, how, colour, "");
    if (!strcmp(how, "line")) snprintf(to->name, sizeof to->name, "%s", r->objective);
    for (size_t i = 0; i < line.n; i++) add_mark(to, line.mark[i].x, line.mark[i].y, NULL);
    to = add_trace(p, "dot", colour, "");
    to->mark = line.mark, to->n = line.n;
}

// Begin a plot of a kind of score. figure: how its file's name begins.
static Plot *add_score_plot(Plots *all, const char *figure, const ScoreRow *kind, const char *x_label) {
    int loss = !strcmp(kind->kind, loss_kind);
    const Group words = {.objective = kind->stage, .data = loss ? "" : kind->metric};
    char file[100];
    snprintf(file, sizeof file, "%s-%s", figure, kind->kind);
    for (char *c = file; *c; c++) *c = *c == ' ' ? '-' : *c;
    const char *y_label = loss ? kind->metric : "mean over the tasks, %";
    Plot *p = add_plot(all, file, "", &words, 1, x_label, 1, y_label, 0);
    if (loss) strcpy(p->title, loss_kind);
    else snprintf(p->title, sizeof p->title, "%s, %s (%s)", kind->kind, kind->metric, kind->stage);
    return p;
}

// The length of the name of a model's recipe, which ends before a "-" and a digit: "bert" of bert-2x24-seed1.
static int recipe_length(const char *model) {
    int n = 0;
    while (model[n] && !(model[n] == '-' && isdigit((unsigned char)model[n + 1]))) n++;
    return n;
}

static int same_recipe(const ScoreRow *a, const ScoreRow *b) {
    int n = recipe_length(a->model);
    return n == recipe_length(b->model) && !strncmp(a->model, b->model, (size_t)n);
}

// Are two scores to be compared: of trained models, of one kind, at the same compute?
static int at_equal_compute(const ScoreRow *a, const ScoreRow *b) {
    return same_kind(a, b) && !strcmp(a->weights, "trained") && !strcmp(b->weights, "trained") &&
           fabs(log(a->C / b->C)) < 0.02;
}

// The first row of each recipe that is to be compared with a row. Returns how many there are.
static size_t find_recipes(const ScoreRow **recipe, const ScoreRow *row, size_t n, const ScoreRow *with) {
    size_t recipes = 0;
    for (const ScoreRow *r = row; r < row + n; r++) {
        size_t k = 0;
        while (k < recipes && !same_recipe(recipe[k], r)) k++;
        if (k == recipes && at_equal_compute(r, with)) recipe[recipes++] = r;
    }
    return recipes;
}

// Plots of three or more recipes at equal compute: each kind of score against the data/model ratio D/F, a dot
// for each model. Returns how many there are.
static size_t plot_recipes(Plots *all, const ScoreRow *row, size_t n) {
    const ScoreRow **recipe = alloc_or_die(n * sizeof *recipe);
    size_t before = all->n;
    for (const ScoreRow *kind = row; kind < row + n; kind++) {
        size_t recipes = find_recipes(recipe, row, n, kind);
        if (recipes < 3 || recipe[0] != kind) continue; // too few, or drawn already
        char figure[40];
        snprintf(figure, sizeof figure, "recipes-%.2g", kind->C);
        Plot *p = add_score_plot(all, figure, kind, "data/model ratio D/F_N (tokens per FLOP per token)");
        sprintf(p->title + strlen(p->title), ", C = %.2g", kind->C);
        for (size_t k = 0; k < recipes; k++) {
            Trace *dots = add_trace(p, "dot", group_colour((ptrdiff_t)k), "");
            snprintf(dots->name, sizeof dots->name, "%.*s", recipe_length(recipe[k]->model), recipe[k]->model);
            for (const ScoreRow *r = row, *first; r < row + n; r++) {
                if (!at_equal_compute(r, kind) || !same_recipe(r, recipe[k])) continue;
                for (first = row; !at_equal_compute(first, kind) || strcmp(first->model, r->model);) first++;
                if (first == r) add_mean(dots, row, n, r, 1);
            }
        }
    }
    free(recipe);
    return all->n - before;
}

// A plot for each kind of score after each stage: a colour for each objective, and lines for what was
// trained, for token vectors alone and for the untrained shape.
static void plot_scores(Plots *all, const ScoreRow *row, size_t n) {
    static const char *const weights[] = {"trained", "token vectors only", "untrained"};
    static const char *const how[] = {"line", "dash", "dots"};
    for (const ScoreRow *kind = row; kind < row + n; kind++) {
        const ScoreRow *first = row;
        ptrdiff_t objectives = 0;
        while (!same_kind(first, kind)) first++;
        if (first < kind) continue; // drawn already
        Plot *p = add_score_plot(all, "scores", kind, compute_label());
        for (int w = 0; w < 3; w++) add_trace(p, how[w], "soft", weights[w]);
        for (const ScoreRow *r = row; r < row + n; r++) {
            for (first = row; !same_kind(first, kind) || strcmp(first->objective, r->objective);) first++;
            if (first < r || !same_kind(r, kind)) continue;
            for (int w = 0; w < 3; w++) {
                ScoreRow line = *r;
                strcpy(line.weights, weights[w]);
                add_score_line(p, row, n, &line, how[w], group_colour(objectives));
            }
            objectives++;
        }
    }
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
    {"Learning rate and batch",
     "All runs at the best size of each compute budget, and the geometric mean of those within 0.25% of the "
     "lowest loss.", 1, {figure_rates, figure_batches}},
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
        fprintf(f, said++ ? "; %s " : "%s, mlm’s best data/model ratio over ntp’s is ", way_legends[way]);
        for (int end = 0; end < 2; end++) {
            double C = shared_budget(mlm, ntp, end * (RATIOS - 1)), lo, hi;
            double quotient = ratio_interval(mlm, way, ntp, way, C, &lo, &hi);
            fprintf(f, "%s%s at C = %s", end ? " and " : "", interval_text(quotient, lo, hi), num3(C));
        }
    }
    if (said) fprintf(f, ". The paper says 10 to 100. ");
    for (const Group *h = g; h < g + n && !said; h++) {
        if (n > 1) fprintf(f, "%s: ", short_name(h));
        if (h->verdict == NEITHER)
            fprintf(f, "no best split, by the law since %s, and by the minima since %s. ", h->refused[BY_LAW],
                    h->refused[BY_MINIMA]);
        for (int way = 0; way < N_WAYS; way++) {
            const PowerLaw *p = &h->split[way];
            double tenfold = pow(10, p->exponent), lo = pow(10, p->exponent_lo), hi = pow(10, p->exponent_hi);
            if (h->refused[way]) continue;
            fprintf(f, "%s, ten times the compute wants %s times the model and %s times the data. ",
                    way_legends[way], interval_text(tenfold, lo, hi),
                    interval_text(10 / tenfold, 10 / hi, 10 / lo));
        }
    }
    for (const Group *h = g; h < g + n; h++)
        if (h->verdict == DISAGREE)
            fprintf(f, "Law and minima of %s do not agree, so at most one of them is right. ",
                    short_name(h));
    text_close(f);
    *text = (char)toupper((unsigned char)*text);
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
    char name[400];
    group_name(name, sizeof name, g->objective, g->data, 90);
    fputs("<div>\n<h3>", html), put_escaped(html, name, strlen(name)), fputs("</h3>\n", html);
    if (g->has_law) fputs("<table>\n<tr><th></th><th>value (95% interval)</th></tr>\n", html);
    for (int k = 0; g->has_law && k < N_LAW; k++) {
        int free = isnan(given(k));
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
            "a = β/(α+β) and b = α/(α+β). The intervals come from a bootstrap.</p>\n"
            "<div class=\"plots\">\n",
            reading.columns ? "size" : "training FLOPs per token", reading.with_head ? " with its head" : "",
            reading.columns ? "data" : "tokens");
    for (size_t i = 0; i < n; i++) put_numbers(html, &g[i]);
    fputs("</div>\n", html);
}

// Write the page: one data set after the other, and then the scores, if there are any.
static void put_page(const Page *page, const Fit *fit, const ScoreRow *score, size_t n_scores) {
    fprintf(page->html, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>Scaling law of %zu runs</title>\n"
            "<style>\n%s%s</style>\n</head>\n<body>\n", fit->points, plot_style, page_style);
    for (size_t i = 0, n; i < fit->n; i += n) {
        const Group *g = &fit->group[i];
        for (n = 1; i + n < fit->n && !strcmp(g[n].data, g->data);) n++;
        put_data(page, g, n);
    }
    if (n_scores > 0) {
        Plots plots = {0};
        if (!plot_recipes(&plots, score, n_scores)) plot_scores(&plots, score, n_scores);
        fputs("<h1>What the models are worth</h1>\n<p>Scores of dev/eval, with "
              "95% intervals over the test examples.</p>\n<div class=\"plots\">\n", page->html);
        for (size_t i = 0; i < plots.n; i++) draw(page, &(Plots){1, &plots.plot[i]}); // each with its own axes
        fputs("</div>\n", page->html);
    }
    fputs("</body>\n</html>\n", page->html);
}

typedef struct {
    FitSettings fit; // first, so that the offsets in fit_options are right
    const char *svg, *scores;
} PlotSettings;

#define TO(field) .offset = offsetof(PlotSettings, field)
static Option plot_options[2 + sizeof fit_options / sizeof *fit_options] = {
    {"scores", TEXT, FREE, TO(scores), 0, 0, "FILE", "draw these scores of dev/eval --scores too"},
    {"svg", TEXT, FREE, TO(svg), 0, 0, "DIR", "write each plot also as DIR/FIGURE-OBJECTIVE-DATA.svg"},
}; // plot_main adds those of dev/fit
#undef TO

int plot_main(int argc, char **argv) {
    PlotSettings s = {.fit = fit_opt};
    Page page = {0};
    char *text;
    size_t size, n_scores = 0, n = 2;
    const ScoreRow *score = NULL;
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
    if (s.scores) score = read_scores(s.scores, &n_scores); // first: fits take a while
    Fit fit = fit_all();
    if (page.dir && mkdir(page.dir, 0777) && errno != EEXIST)
        die("--svg %s: cannot make this folder: %s", page.dir, strerror(errno));
    page.html = text_open(&text, &size); // so that a page is printed whole or not at all
    put_page(&page, &fit, score, n_scores);
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
