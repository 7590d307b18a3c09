/*
From loss points to a scaling law: how to split compute between model and data.

    dev/fit points.csv                        everything, for each objective and data set in it
    dev/fit points.csv lr.csv                 any number of files; a stage lr's tells rates and batches
    dev/fit points.csv --predict 1e14         the best run at this compute, and its command
    dev/fit points.csv --hours 2              the same for two hours on this machine
    dev/fit table.csv --columns N=size,D=tokens,L=loss      any published table

The law is L(F,D) = E + A/F^alpha + B/D^beta, where L is the validation loss, F the training FLOPs per token,
D the training tokens, and C = F D the compute. It is fitted as in Hoffmann et al. (arXiv 2203.15556, approach
3): minimise the sum of the Huber losses of the residuals of log L. Besiroglu et al. (arXiv 2404.10102) found
that fit spoiled by an optimiser that stopped early and by rounded parameters. So this one descends from many
starts until rounding errors stop it, and rounds only what it prints.

The lowest minimum of that objective is not always a good frontier. So a second answer stands beside it that
assumes no law: the minima of the isoFLOP curves (approach 2). The report begins with whether the two agree.
*/
#ifndef FIT_C
#define FIT_C
#include "points.c"

// What --fix says of the law. NAN: nothing. tied: alpha = beta.
typedef struct {
    double E, alpha, beta;
    int tied;
} Fix;

typedef struct {
    Reading reading;       // becomes the one of points.c
    Files points;
    const char *json, *fix;
    double predict, hours; // NAN: not given
    size_t draws, seed;    // of the bootstrap
    Fix fixed;
    int residuals, help;
} FitSettings;

static FitSettings fit_opt = {.reading = {.plateau = NAN, .flops_per = NAN}, .predict = NAN, .hours = NAN,
                              .draws = 1000, .seed = 1, .fixed = {NAN, NAN, NAN, 0}};

// What --fix says of number k of the law.
static double given(int k) {
    const Fix *fix = &fit_opt.fixed;
    return k == LAW_E ? fix->E : k == LAW_ALPHA ? fix->alpha : k == LAW_BETA ? fix->beta : NAN;
}

// ----------------------------------------------------------------------------
// the law

// The parameters of a fit are t = (e, a, b, alpha, beta), and the model is
//     log L = log(exp(e) + exp(a - alpha x) + exp(b - beta y)),
// where x and y are log F and log D minus their means. So exp(e), exp(a) and exp(b) are the three terms of
// the loss at a typical point.
enum { NP = 5, GRID = 24, MAX_STARTS = 24 }; // parameters, exponents in the grid, starts
#define EXPONENT_MIN 0.02 // of the grid, and the bounds of alpha and beta
#define EXPONENT_MAX 4.0
#define HUBER_DELTA 1e-3  // Hoffmann et al.

// The points, as the fit needs them.
typedef struct {
    size_t n;
    double *x, *y, *l;        // (n) log F and log D minus their means; log L
    double mean_x, mean_y;
    double low[NP], high[NP]; // bounds of t; equal if a parameter is fixed
    int tied;                 // alpha = beta
} Surface;

// Exponent i of the grid between these bounds; just one, i = 0, if they are equal.
static double grid_exponent(double low, double high, int i) {
    return i > 0 && low == high ? NAN : low * pow(high / low, i / (GRID - 1.0));
}

// The caller frees x, which holds y and l too.
Surface surface_make(const double *F, const double *D, const double *loss, size_t n, const Fix *fix) {
    Surface s = {.n = n, .tied = fix->tied, .x = alloc_or_die(3 * n * sizeof(double))};
    Range losses = range_of(loss, n);
    double low = log(losses.lo) - 40, high = log(losses.hi) + 1;
    double E = fix->E > 0 ? log(fix->E) : isnan(fix->E) ? NAN : -1000;
    const double fixed[NP] = {E, NAN, NAN, fix->alpha, fix->beta};
    s.y = s.x + n, s.l = s.y + n;
    for (size_t i = 0; i < n; i++) {
        s.x[i] = log(F[i]), s.y[i] = log(D[i]), s.l[i] = log(loss[i]);
        s.mean_x += s.x[i] / (double)n, s.mean_y += s.y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) s.x[i] -= s.mean_x, s.y[i] -= s.mean_y;
    for (int k = 0; k < NP; k++) {
        s.low[k] = !isnan(fixed[k]) ? fixed[k] : k < 3 ? low : EXPONENT_MIN;
        s.high[k] = !isnan(fixed[k]) ? fixed[k] : k < 3 ? high : EXPONENT_MAX;
    }
    return s;
}

// Solve A x = b by Cholesky's method, for a symmetric, positive definite A (n,n). x replaces b; A is
// overwritten. Returns 0 if A is not positive definite.
static int solve_symmetric(int n, double A[NP][NP], double *b) {
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = A[i][j];
            for (int k = 0; k < j; k++) sum -= A[i][k] * A[j][k];
            if (i > j) A[i][j] = sum / A[j][j];
            else if (sum > 1e-15 * fabs(A[i][i])) A[i][i] = sqrt(sum);
            else return 0;
        }
        for (int k = 0; k < i; k++) b[i] -= A[i][k] * b[k];
        b[i] /= A[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) b[i] -= A[k][i] * b[k];
        b[i] /= A[i][i];
    }
    return 1;
}

// Non-negative least squares in three unknowns, from the normal equations G c = h. Tries each subset of the
// unknowns that are `allowed` (one bit each) and takes the one that explains most without a negative number.
// Returns how much of the sum of squares it explains, h · c.
double least_squares(double G[3][3], const double h[3], int allowed, double c[3]) {
    double best = 0;
    c[0] = c[1] = c[2] = 0;
    for (int set = 1; set < 8; set++) {
        if (set & ~allowed) continue;
        double A[NP][NP], b[NP], explained = 0;
        int member[3], n = 0, feasible;
        for (int k = 0; k < 3; k++)
            if (set >> k & 1) member[n++] = k;
        for (int i = 0; i < n; i++) {
            b[i] = h[member[i]];
            for (int j = 0; j < n; j++) A[i][j] = G[member[i]][member[j]];
        }
        feasible = solve_symmetric(n, A, b);
        for (int i = 0; feasible && i < n; i++) feasible = b[i] >= 0, explained += b[i] * h[member[i]];
        if (!feasible || explained <= best) continue;
        best = explained, c[0] = c[1] = c[2] = 0;
        for (int i = 0; i < n; i++) c[member[i]] = b[i];
    }
    return best;
}

// Find at most max starts for the descent, by variable projection: for each pair of exponents in the grid, E,
// A and B follow by least squares on the relative errors. The starts are the best cells of the grid, no two
// of them neighbours. Returns how many.
static int law_starts(const Surface *s, const double *w, double start[][NP], int max) {
    double left[GRID][GRID], cell[GRID][GRID][3], alpha[GRID], beta[GRID];
    int fixed = s->low[0] == s->high[0], n = 0;
    double E = fixed ? exp(s->low[0]) : 0, floor_t = s->low[1] + 33; // 1e-3 of the loss, in place of 0
    double *f = alloc_or_die((2 * GRID + 1) * s->n * sizeof *f), *by_x = f + s->n, *by_y = by_x + GRID * s->n;
    for (int i = 0; i < GRID; i++) {
        alpha[i] = grid_exponent(s->low[3], s->high[3], i), beta[i] = grid_exponent(s->low[4], s->high[4], i);
        for (size_t k = 0; k < s->n; k++) {
            f[k] = exp(-s->l[k]);
            by_x[(size_t)i * s->n + k] = exp(-s->l[k] - alpha[i] * s->x[k]);
            by_y[(size_t)i * s->n + k] = exp(-s->l[k] - beta[i] * s->y[k]);
        }
    }
    for (int i = 0; i < GRID; i++)
        for (int j = 0; j < GRID; j++) {
            double G[3][3] = {{0}}, h[3] = {0}, all = 0;
            const double *x = by_x + (size_t)i * s->n, *y = by_y + (size_t)j * s->n;
            left[i][j] = INFINITY;
            if (isnan(alpha[i]) || isnan(beta[j]) || (s->tied && i != j)) continue;
            for (size_t k = 0; k < s->n; k++) {
                double term[3] = {f[k], x[k], y[k]}, target = 1 - E * f[k];
                all += w[k] * target * target;
                for (int p = 0; p < 3; p++) {
                    h[p] += w[k] * term[p] * target;
                    for (int q = 0; q < 3; q++) G[p][q] += w[k] * term[p] * term[q];
                }
            }
            left[i][j] = all - least_squares(G, h, fixed ? 6 : 7, cell[i][j]);
        }
    free(f);
    while (n < max) {
        int bi = -1, bj = -1;
        for (int i = 0; i < GRID; i++)
            for (int j = 0; j < GRID; j++)
                if (left[i][j] < INFINITY && (bi < 0 || left[i][j] < left[bi][bj])) bi = i, bj = j;
        if (bi < 0) break;
        for (int k = 0; k < 3; k++) start[n][k] = fmax(floor_t, log(cell[bi][bj][k]));
        if (fixed) start[n][0] = s->low[0];
        start[n][3] = alpha[bi], start[n][4] = beta[bj];
        n++;
        for (int i = MAX(0, bi - 1); i <= MIN(GRID - 1, bi + 1); i++)
            for (int j = MAX(0, bj - 1); j <= MIN(GRID - 1, bj + 1); j++) left[i][j] = INFINITY;
    }
    return n;
}

// The objective at t, sum w huber(r) with r = log-sum-exp - l; its gradient; its Hessian H; and M, an
// approximation to H that leaves out the curvature of the model and weighs a point with |r| > delta by
// delta/|r|, as iteratively reweighted least squares does. M is always positive semidefinite, and a step by
// it never overshoots far. If alpha = beta, what moves one moves both: the derivatives by beta are folded
// into those by alpha.
typedef struct {
    double value, gradient[NP], H[NP][NP], M[NP][NP];
} Objective;

void law_objective(const Surface *s, const double *w, const double t[NP], Objective *o) {
    *o = (Objective){0};
    for (size_t i = 0; i < s->n; i++) {
        if (w[i] == 0) continue;
        double z[3] = {t[0], t[1] - t[3] * s->x[i], t[2] - t[4] * s->y[i]};
        double top = fmax(z[0], fmax(z[1], z[2])), sum = 0, share[3];
        for (int k = 0; k < 3; k++) sum += share[k] = exp(z[k] - top);
        for (int k = 0; k < 3; k++) share[k] /= sum;
        double r = top + log(sum) - s->l[i], size = fabs(r), slope = r, weight = 1, delta = HUBER_DELTA;
        if (size > delta) slope = copysign(delta, r), weight = delta / size;
        o->value += w[i] * (size > delta ? delta * (size - delta / 2) : r * r / 2);
        // the gradient of log-sum-exp
        double d[NP] = {share[0], share[1], share[2], -s->x[i] * share[1], -s->y[i] * share[2]};
        double x[NP] = {1, 1, 1, -s->x[i], -s->y[i]};
        for (int p = 0; p < NP; p++) {
            o->gradient[p] += w[i] * slope * d[p];
            for (int q = 0; q <= p; q++) {
                int one_term = (p == 3 ? 1 : p == 4 ? 2 : p) == (q == 3 ? 1 : q == 4 ? 2 : q);
                double bend = (one_term ? d[p] * x[q] : 0) - d[p] * d[q];
                o->M[p][q] += w[i] * weight * d[p] * d[q];
                o->H[p][q] += w[i] * ((size <= delta) * d[p] * d[q] + slope * bend);
            }
        }
    }
    if (s->tied) o->gradient[3] += o->gradient[4], o->gradient[4] = 0;
    for (int k = 0; k < 2 && s->tied; k++) {
        double (*A)[NP] = k ? o->H : o->M;
        A[3][3] += 2 * A[4][3] + A[4][4];
        for (int q = 0; q < 3; q++) A[3][q] += A[4][q];
    }
}

// Newton's method from t, damped by M: a step solves (H + lambda M) step = -gradient. A larger lambda makes
// it more cautious, and no step is longer than 2 in e, a or b, or 0.5 in an exponent. It ends when no step,
// however small, is an improvement, or when steps are as small as rounding errors. (Near the minimum the
// value can no longer tell better from worse, but the gradient can.) Returns whether it got there; t is then
// the minimum and *value the objective.
static int law_descend(const Surface *s, const double *w, double t[NP], double *value) {
    Objective now, next;
    double lambda = 1, tiny = 0;
    law_objective(s, w, t, &now);
    for (int i = 0; i < 2000; i++) {
        double A[NP][NP], step[NP], moved = 0, steep = 0, next_steep = 0;
        int fixed[NP];
        for (int p = 0; p < NP; p++) {
            double slope = now.gradient[p];
            fixed[p] = s->low[p] == s->high[p] || (p == 4 && s->tied) || (t[p] <= s->low[p] && slope > 0) ||
                       (t[p] >= s->high[p] && slope < 0);
            tiny = fmax(tiny, 1e-14 * now.M[p][p]);
        }
        int better = 0;
        for (int newton = 1; newton >= 0 && !better; newton--) { // by M alone if H is not positive definite
            for (int p = 0; p < NP; p++) {
                step[p] = fixed[p] ? 0 : -now.gradient[p];
                for (int q = 0; q <= p; q++)
                    A[p][q] = fixed[p] || fixed[q] ? p == q : (newton ? now.H : now.M)[p][q] +
                              lambda * (now.M[p][q] + (p == q) * tiny);
            }
            better = solve_symmetric(NP, A, step);
        }
        if (better) {
            for (int p = 0; p < NP; p++) {
                double from = t[p], most = p < 3 ? 2 : 0.5;
                step[p] = fmin(fmax(from + fmin(fmax(step[p], -most), most), s->low[p]), s->high[p]);
                moved = fmax(moved, fabs(step[p] - from) / (1 + fabs(from)));
            }
            if (s->tied) step[4] = step[3];
            law_objective(s, w, step, &next);
            for (int p = 0; p < NP; p++) {
                double scale = fixed[p] ? 0 : 1 / (now.M[p][p] + tiny + 1e-300);
                steep += now.gradient[p] * now.gradient[p] * scale;
                next_steep += next.gradient[p] * next.gradient[p] * scale;
            }
            better =
                next.value < now.value || (next.value <= now.value * (1 + 1e-12) && next_steep < steep / 4);
        }
        if (better) memcpy(t, step, NP * sizeof *t), now = next, lambda = fmax(lambda / 8, 1e-12);
        else lambda *= 8;
        *value = now.value;
        if ((better && moved < 1e-15) || lambda > 1e12) return 1;
    }
    return 0;
}

// How many different (x, y) have a weight, at most `enough`. y may be NULL.
static int count_distinct(const double *x, const double *y, const double *w, size_t n, int enough) {
    size_t found[8];
    int count = 0;
    for (size_t i = 0; i < n && count < enough; i++) {
        int k = 0;
        while (k < count && (fabs(x[i] - x[found[k]]) > 1e-9 || (y && fabs(y[i] - y[found[k]]) > 1e-9))) k++;
        if (w[i] > 0 && k == count) found[count++] = i;
    }
    return count;
}

// Can these points determine a law at all? Each number that is known takes one point less,
// and E also one of the sizes.
static int law_possible(const Surface *s, const double *w) {
    int E = s->low[0] == s->high[0], alpha = s->low[3] == s->high[3], beta = s->low[4] == s->high[4];
    int all = 5 - E - alpha - beta - (s->tied && !alpha && !beta);
    return count_distinct(s->x, s->y, w, s->n, all) == all &&
           count_distinct(s->x, NULL, w, s->n, 3 - E) == 3 - E &&
           count_distinct(s->y, NULL, w, s->n, 3 - E) == 3 - E;
}

// Fill in A, B and the best split: along F D = C, dL = 0 gives F_opt = G C^a and D_opt = C^b / G.
static void law_close(Law *law, double log_A, double log_B) {
    double sum = law->alpha + law->beta;
    law->A = exp(log_A), law->B = exp(log_B);
    law->a = law->beta / sum, law->b = law->alpha / sum;
    law->G = exp((log(law->alpha) + log_A - log(law->beta) - log_B) / sum);
}

// The loss that a law expects.
double law_loss(const Law *law, double F, double D) {
    return law->E + law->A * pow(F, -law->alpha) + law->B * pow(D, -law->beta);
}

// F_opt as a power law in C.
static PowerLaw law_split(const Law *law) { return (PowerLaw){law->G, law->a, NAN, NAN, !isnan(law->a)}; }

// The law that the parameters t stand for, with this value of the objective.
static Law law_of(const Surface *s, const double t[NP], double value) {
    int gone[3]; // a term below 1e-13 of the loss: too flat for the descent, and on its way to 0
    for (int k = 0; k < 3; k++) gone[k] = t[k] < s->low[k] + 10 && s->low[k] < s->high[k];
    Law law = {.E = gone[0] ? 0 : exp(t[0]), .alpha = t[3], .beta = t[4], .huber = value};
    double log_A = gone[1] ? -INFINITY : t[1] + t[3] * s->mean_x;
    law_close(&law, log_A, gone[2] ? -INFINITY : t[2] + t[4] * s->mean_y);
    return law;
}

// The law of points with weights w (n): the lowest minimum reached from the starts, and from t if have_t. Its
// parameters replace t; *converged tells whether the descent ended there; end (starts + 1) gets what each
// descent ended in, and after them a law without a value. Both may be NULL.
Law surface_fit(const Surface *s, const double *w, int starts, double t[NP], int have_t, int *converged,
                Law *end) {
    double start[MAX_STARTS + 1][NP], best = INFINITY;
    int n = law_starts(s, w, start, starts);
    if (have_t) memcpy(start[n++], t, NP * sizeof *t);
    for (int i = 0; i < n; i++) {
        double value;
        int ended = law_descend(s, w, start[i], &value);
        if (end) end[i] = law_of(s, start[i], value);
        if (!(value < best)) continue;
        best = value, memcpy(t, start[i], NP * sizeof *t);
        if (converged) *converged = ended;
    }
    if (end && n <= starts) end[n].huber = NAN;
    return law_of(s, t, best);
}

// The law of n points that all count the same. Returns 0 if they cannot determine one.
int law_fit(Law *law, const double *F, const double *D, const double *loss, size_t n, const Fix *fix) {
    double t[NP], *w = alloc_or_die(n * sizeof *w);
    for (size_t i = 0; i < n; i++) w[i] = 1;
    Surface s = surface_make(F, D, loss, n, fix);
    int possible = law_possible(&s, w);
    if (possible) *law = surface_fit(&s, w, MAX_STARTS, t, 0, NULL, NULL);
    free(s.x), free(w);
    return possible;
}

// Of the minima that descents ended in, keep those which noise could make the lowest, and whose split is
// another: for Laplace's errors, a sum of Huber losses higher by the factor 1 + 2/n is e² times less likely.
static void find_alternatives(Group *g, const Law *end) {
    for (int i = 0; i <= MAX_STARTS && !isnan(end[i].huber); i++) {
        int near = end[i].huber < g->law.huber * (1 + 2 / (double)g->n_use);
        int new = near && fabs(end[i].a - g->law.a) > 0.02;
        for (size_t k = 0; k < g->n_alternatives; k++) new &= fabs(end[i].a - g->alternative[k].a) > 0.02;
        if (new && g->n_alternatives < MAX_ALTERNATIVES) g->alternative[g->n_alternatives++] = end[i];
    }
}

// ----------------------------------------------------------------------------
// minima of isoFLOP curves (Hoffmann et al., approach 2), and power laws

// The parabola of one budget through its used cells, with weights w (n_use of the group). A minimum outside
// the sizes is clipped to their nearest end: where it really is cannot be told, but that it is on that side
// can, and a budget left out would say less.
static void fit_parabola(Budget *b, const Group *g, const double *w) {
    double A[NP][NP] = {{0}}, c[3] = {0}, sum = 0, low = INFINITY, high = -INFINITY, least = INFINITY;
    double best = NAN;
    b->center = 0;
    for (size_t i = b->use; i < b->use + b->n_use; i++) sum += w[i], b->center += w[i] * log(g->F[i]);
    b->center /= sum;
    for (size_t i = b->use; i < b->use + b->n_use; i++) {
        double z = log(g->F[i]) - b->center, power[3] = {1, z, z * z};
        if (w[i] == 0) continue;
        low = fmin(low, z), high = fmax(high, z);
        if (g->loss[i] < least) least = g->loss[i], best = z;
        for (int p = 0; p < 3; p++) {
            c[p] += w[i] * power[p] * g->loss[i];
            for (int q = 0; q < 3; q++) A[p][q] += w[i] * power[p] * power[q];
        }
    }
    int solved = b->sizes >= 3 && high - low > 1e-9 && solve_symmetric(3, A, c);
    memcpy(b->c, c, sizeof c);
    b->open = !solved || !(c[2] > 0) || reading.with_head; // with the head, C varies within a budget
    double z = b->open ? best : -c[1] / (2 * c[2]);
    b->edge = !b->open && (z <= low || z >= high || best < low + 1e-9 || best > high - 1e-9);
    b->off = !b->open && fabs(z - (low + high) / 2) > (high - low) / 4; // (arXiv 2603.22339)
    z = fmin(fmax(z, low), high);
    b->F_opt = exp(b->center + z), b->D_opt = b->C / b->F_opt;
    b->loss = b->open ? NAN : c[0] + z * (c[1] + z * c[2]);
}

// The split by the minima: a power law through those of the budgets with three sizes or more. In simulated
// sweeps it is nearer to the truth than fit_pooled (see dev/README.md).
static PowerLaw fit_minima(const Group *g, const double *w) {
    double C[g->n_budgets + 1], F[g->n_budgets + 1], use[g->n_budgets + 1];
    for (size_t i = 0; i < g->n_budgets; i++) {
        Budget b = g->budget[i];
        fit_parabola(&b, g, w);
        C[i] = b.C, F[i] = b.F_opt, use[i] = b.sizes >= 3;
    }
    PowerLaw p = power_law(C, F, use, g->n_budgets);
    return p.n < 2 ? no_power_law : p; // one budget tells nothing about growth
}

// One model for the isoFLOP curves of all budgets: log L = m + c (log F - log F_opt)², where each budget has an
// m of its own, c is shared, and F_opt = k C^exponent. Multiplied out, it is linear in log F's square, in log F
// and in log F log C: least squares on the deviations from each budget's means. If it has no minimum, n = 0.
static PowerLaw fit_pooled(const Group *g) {
    double A[NP][NP] = {{0}}, c[3] = {0}, mean_x = 0, mean_z = 0, n = 0;
    PowerLaw p = no_power_law;
    for (size_t i = 0; i < g->n_use; i++) mean_x += log(g->F[i]) / (double)g->n_use;
    for (size_t i = 0; i < g->n_budgets; i++) mean_z += log(g->budget[i].C) / (double)g->n_budgets;
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++, p.n++) {
        double u[b->n_use][4], mean[4] = {0}, z = log(b->C) - mean_z;
        for (size_t i = 0; i < b->n_use; i++) {
            double x = log(g->F[b->use + i]) - mean_x, row[4] = {x * x, x, x * z, log(g->loss[b->use + i])};
            for (int k = 0; k < 4; k++) u[i][k] = row[k], mean[k] += row[k] / (double)b->n_use;
        }
        for (size_t i = 0; i < b->n_use; i++, n++)
            for (int j = 0; j < 3; j++) {
                c[j] += (u[i][j] - mean[j]) * (u[i][3] - mean[3]);
                for (int k = 0; k < 3; k++) A[j][k] += (u[i][j] - mean[j]) * (u[i][k] - mean[k]);
            }
    }
    if (p.n < 2 || !solve_symmetric(3, A, c) || !(c[0] > 0)) return no_power_law;
    p.exponent = -c[2] / (2 * c[0]), p.k = exp(mean_x - c[1] / (2 * c[0]) - p.exponent * mean_z);
    return p;
}

// ----------------------------------------------------------------------------
// the bootstrap, and what it says of the best split

enum { STREAM_BOOTSTRAP = 300, DRAW_STARTS = 6, DRAW_TRIES = 20 };

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The p-th quantile of n ascending numbers, with linear interpolation (R's type 7, the usual one).
double quantile(const double *sorted, size_t n, double p) {
    if (n == 0) return NAN;
    double place = p * (double)(n - 1);
    size_t i = (size_t)place;
    double next = sorted[MIN(i + 1, n - 1)];
    if (next == sorted[i]) return next; // which may be infinite
    return sorted[i] + (place - (double)i) * (next - sorted[i]);
}

// The 95% interval of x (n), NANs left out. Sorts x.
static void interval_95(double *x, size_t n, double *lo, double *hi) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[i])) x[kept++] = x[i];
    qsort(x, kept, sizeof *x, compare_doubles);
    *lo = quantile(x, kept, 0.025), *hi = quantile(x, kept, 0.975);
}

// What the bootstrap draws: cells, from each budget as many as it has; but where the points are
// learning curves (no budgets, and more than eight points for a size), all of one size, since those of
// a run are not independent.
static void find_units(Group *g) {
    g->unit = alloc_or_die(2 * g->n_use * sizeof *g->unit), g->stratum = g->unit + g->n_use;
    for (size_t i = 0, j; i < g->n_use; i++) {
        for (j = 0; j < i && g->F[j] != g->F[i];) j++;
        g->unit[i] = j < i ? g->unit[j] : g->n_units++;
    }
    if (g->n_budgets == 0 && g->n_use > 8 * g->n_units) return;
    g->n_units = g->n_use;
    for (size_t i = 0; i < g->n_use; i++) g->unit[i] = i, g->stratum[i] = g->n_budgets;
    for (size_t b = 0; b < g->n_budgets; b++)
        for (size_t i = 0; i < g->budget[b].n_use; i++) g->stratum[g->budget[b].use + i] = b;
}

// Draw a resample: w (n_use) becomes how often each used cell is in it. As many units are drawn from each
// budget as it has, and from those without a budget. Each objective has its own random numbers, so that the
// resamples of two are independent.
static void resample(const Group *g, double *w, uint64_t draw) {
    size_t *list = alloc_or_die(2 * g->n_units * sizeof *list), *drawn = list + g->n_units, next = 0;
    uint64_t stream = STREAM_BOOTSTRAP + draw;
    for (const char *c = g->objective; *c; c++) stream = stream * 31 + (unsigned char)*c;
    for (size_t b = 0; b <= g->n_budgets; b++) {
        size_t n = 0;
        for (size_t u = 0; u < g->n_units; u++)
            if (g->stratum[u] == b) list[n++] = u;
        for (size_t i = 0; i < n; i++)
            drawn[list[(size_t)(uniform(fit_opt.seed, stream, next++) * (double)n)]]++;
    }
    for (size_t i = 0; i < g->n_use; i++) w[i] = (double)drawn[g->unit[i]];
    free(list);
}

// F_opt at C by one way, and D_opt/F_opt.
double split_F(const Group *g, int way, double C) { return power_at(&g->split[way], C); }
double split_ratio(const Group *g, int way, double C) { return C / pow(split_F(g, way, C), 2); }

// D_opt/F_opt at C by one way, with its 95% interval over the draws; with `over`, its quotient by that of
// another group or way.
double ratio_interval(const Group *g, int way, const Group *over, int over_way, double C, double *lo,
                      double *hi) {
    size_t n = over ? MIN(g->n_draws, over->n_draws) : g->n_draws;
    double *x = alloc_or_die(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        double F = power_at(&g->draw_split[way][i], C);
        x[i] = over ? pow(power_at(&over->draw_split[over_way][i], C) / F, 2) : C / (F * F);
    }
    interval_95(x, n, lo, hi);
    free(x);
    return split_ratio(g, way, C) / (over ? split_ratio(over, over_way, C) : 1);
}

// The intervals that the draws give.
static void summarise_draws(Group *g) {
    double *x = alloc_or_die(g->n_draws * sizeof *x);
    for (size_t i = 0; i < g->n_draws; i++) g->n_laws += !isnan(g->draw[i].E);
    for (int k = 0; k < N_LAW; k++) {
        for (size_t i = 0; i < g->n_draws; i++) x[i] = g->draw[i].v[k];
        interval_95(x, g->n_draws, &g->lo.v[k], &g->hi.v[k]);
    }
    for (int way = 0; way < N_WAYS; way++) {
        for (size_t i = 0; i < g->n_draws; i++) x[i] = g->draw_split[way][i].exponent;
        interval_95(x, g->n_draws, &g->split[way].exponent_lo, &g->split[way].exponent_hi);
    }
    free(x);
}

// How far the bootstrap is, on a terminal, when there is something to wait for.
static void show_progress(const Group *g, size_t done, double began, double *shown) {
    double now = now_seconds(), left = (now - began) * (double)(fit_opt.draws - done) / (double)done;
    char text[32];
    if (!isatty(2) || (now < *shown + 0.5 && done < fit_opt.draws) || (*shown == began && left < 2)) return;
    format_seconds(text, left);
    fprintf(stderr, "\r%s: %zu of %zu resamples, %s left %s", *g->objective ? g->objective : "all rows", done,
            fit_opt.draws, text, done == fit_opt.draws ? "\n" : "");
    *shown = now;
}

// Fit law and minima again to resampled cells. A resample that cannot determine a law is drawn again. A draw
// depends on its number alone, so the result is the same for any number of threads.
static void bootstrap_group(Group *g, const Surface *s, const double t[NP]) {
    size_t draws = g->n_draws = fit_opt.draws, done = 0;
    double began = now_seconds(), shown = began;
    g->draw = alloc_or_die(draws * sizeof *g->draw);
    for (int way = 0; way < N_WAYS; way++) g->draw_split[way] = alloc_or_die(draws * sizeof(PowerLaw));
    #pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < draws; i++) {
        double mine[NP], *w = alloc_or_die(g->n_use * sizeof *w);
        int possible = 0;
        for (size_t attempt = 0; !possible && attempt < DRAW_TRIES; attempt++) {
            resample(g, w, i + attempt * draws);
            possible = !g->has_law || law_possible(s, w);
        }
        memcpy(mine, t, sizeof mine);
        for (int k = 0; k < N_LAW; k++) g->draw[i].v[k] = NAN;
        if (possible && g->has_law) g->draw[i] = surface_fit(s, w, DRAW_STARTS, mine, 1, NULL, NULL);
        g->draw_split[BY_LAW][i] = law_split(&g->draw[i]), g->draw_split[BY_MINIMA][i] = fit_minima(g, w);
        free(w);
        #pragma omp critical
        show_progress(g, ++done, began, &shown);
    }
    summarise_draws(g);
}

// Fit the points of all budgets but the largest, and predict those of the largest.
static void hold_out(Group *g) {
    Law law;
    if (g->n_budgets < 2) return;
    size_t n = g->budget[g->n_budgets - 1].use;
    if (!law_fit(&law, g->F, g->D, g->loss, n, &fit_opt.fixed)) return;
    g->held_n = g->n_use - n;
    for (size_t i = n; i < g->n_use; i++) {
        double error = log(law_loss(&law, g->F[i], g->D[i]) / g->loss[i]);
        g->held_mean += error / (double)g->held_n, g->held_rms += error * error / (double)g->held_n;
    }
    g->held_rms = sqrt(g->held_rms);
}

// Why there is no best split by a law, and none by minima.
static void find_refusals(Group *g) {
    size_t usable = 0, inside = 0;
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++)
        usable += b->sizes >= 3, inside += b->sizes >= 3 && !b->open && !b->edge;
    const char *decade =
        g->C_max < 9.9 * g->C_min ? "under a decade of C: too little to tell how F_opt grows" : NULL;
    g->refused[BY_LAW] =
        !g->has_law ? "too few points: it takes 5 different (F, D), with 3 F and 3 D (fewer with --fix)" :
        g->law.A == 0 ? "no frontier: A is 0, so the loss does not depend on F" :
        g->law.B == 0 ? "no frontier: B is 0, so the loss does not depend on D" :
        !(g->law.G > 0 && isfinite(g->law.G)) ? "no frontier: G cannot be computed" : decade;
    g->refused[BY_MINIMA] =
        reading.with_head ? "no isoFLOP curves: with the head, C varies within a budget" :
        g->n_budgets == 0 ? "no isoFLOP curves: the points do not form budgets" :
        usable < 3 ? "too few budgets: it takes three with three sizes or more" :
        inside < 2 ? "no interior minimum in two budgets or more: try smaller and larger sizes" :
        !g->split[BY_MINIMA].n ? "no interior minimum: the curves of all budgets together have none" : decade;
}

// Three budgets at which law and minima are held against each other: the smallest C, the largest, and the
// middle one in logs.
static double compared_C(const Group *g, int k) { return g->C_min * pow(g->C_max / g->C_min, k / 2.0); }

// Do law and minima agree? Not if they are a factor of 2 apart anywhere, or 1.25 with all of
// the interval on one side.
static int compare_ways(Group *g) {
    double lo, hi;
    int ways = !g->refused[BY_LAW] + !g->refused[BY_MINIMA], apart = 0;
    for (int k = 0; k < 3 && ways == 2; k++) {
        double C = compared_C(g, k), factor = split_F(g, BY_LAW, C) / split_F(g, BY_MINIMA, C);
        ratio_interval(g, BY_LAW, g, BY_MINIMA, C, &lo, &hi);
        int tells = g->n_draws && (lo > 1 || hi < 1);
        g->apart = fmax(g->apart, fmax(factor, 1 / factor));
        apart |= !(fabs(log(factor)) < log(tells ? 1.25 : 2));
    }
    return ways < 2 ? (ways ? ONE_WAY : NEITHER) : apart ? DISAGREE : AGREE;
}

// Work out everything about a group.
void fit_group(Group *g) {
    group_budgets(g), find_units(g);
    double *w = alloc_or_die(g->n_use * sizeof *w), t[NP] = {0};
    Law end[MAX_STARTS + 1];
    for (size_t i = 0; i < g->n_use; i++) w[i] = 1;
    for (size_t i = 0; i < g->n_budgets; i++) fit_parabola(&g->budget[i], g, w);
    Surface s = surface_make(g->F, g->D, g->loss, g->n_use, &fit_opt.fixed);
    for (int k = 0; k < N_LAW; k++) g->law.v[k] = g->lo.v[k] = g->hi.v[k] = NAN;
    g->has_law = law_possible(&s, w);
    if (g->has_law) {
        g->law = surface_fit(&s, w, MAX_STARTS, t, 0, &g->converged, end);
        find_alternatives(g, end);
        hold_out(g);
    }
    g->split[BY_LAW] = law_split(&g->law);
    g->split[BY_MINIMA] = fit_minima(g, w);
    if (fit_opt.draws > 0 && g->n_use > 0) bootstrap_group(g, &s, t);
    find_refusals(g);
    g->verdict = compare_ways(g);
    free(w), free(s.x);
}

// ----------------------------------------------------------------------------
// plans: from a compute budget to a run

// The best run at a compute C.
typedef struct {
    double C, F, D, loss;    // the split, and the law's loss there (NAN: not to be trusted)
    double smaller, larger;  // how much higher the loss is with a third and with three times F, at the same C
    Config shape;            // the nearest to F; L = 0 if the points do not tell T and V
    double shape_F, shape_D; // its F, and the D that makes C
    size_t params, rows, steps;
    double lr;
    const Budget *like;      // the budget whose rate and batch it takes over; NULL: none
} Plan;

// The run whose T, V and mask rate a plan takes over: the last used one of the largest budget.
static const Point *model_run(const Group *g) { return &g->point[g->use[g->n_use - 1]]; }

// The budget nearest to C that tells rate and batch; NULL if none does.
static const Budget *nearest_budget(const Group *g, double C) {
    const Budget *best = NULL;
    for (size_t i = 0; i < g->n_budgets; i++) {
        const Budget *b = &g->budget[i];
        if (!(b->lr > 0 && b->batch_tokens > 0)) continue;
        if (!best || fabs(log(b->C / C)) < fabs(log(best->C / C))) best = b;
    }
    return best;
}

// Rate and batch follow the tuned ones, if three or more were tried at some budget; otherwise they are those
// of the budget nearest in C, the rate scaled as 1/√channels, or the trainer's defaults.
Plan make_plan(const Group *g, int way, double C) {
    const Law *law = &g->law;
    const Point *as = model_run(g);
    Plan p = {.C = C, .F = split_F(g, way, C), .like = nearest_budget(g, C)};
    p.D = C / p.F;
    int trusted = way == BY_LAW || g->verdict != DISAGREE; // where the law is not right, its losses are not
    p.loss = trusted ? law_loss(law, p.F, p.D) : NAN;
    p.smaller = law_loss(law, p.F / 3, p.D * 3) - p.loss, p.larger = law_loss(law, p.F * 3, p.D / 3) - p.loss;
    double T = as->seq_len, V = as->vocab, mask = as->mask_rate > 0 ? fmin(as->mask_rate, 1) : 1;
    if (!(T >= 1 && T <= 1e6 && V >= 1 && V < 65536) || !(p.F > 0 && p.F < 1e15)) return p;
    double head_rate = reading.with_head ? mask : 0;
    p.shape = ladder_shape(p.F, (size_t)T, (size_t)V, !strcmp(g->objective, "ntp"), head_rate);
    p.shape_F = shape_flops(&p.shape, head_rate);
    p.shape_D = C / p.shape_F, p.params = parameter_count(&p.shape);
    double channels = (double)p.shape.C, batch = p.like ? p.like->batch_tokens : as->batch_tokens;
    p.lr = p.like ? p.like->lr * sqrt(p.like->channels / channels) : as->lr * sqrt(as->channels / channels);
    if (g->rates.grids) batch = power_at(&g->rates.batch, p.shape_D);
    if (!(batch > 0)) batch = 32 * T;
    p.rows = choose_rows(fmin(rint(batch / T), 1e6), p.shape_D, T, mask);
    p.steps = (size_t)fmax(1, rint(fmin(1e15, p.shape_D / (double)p.rows / T)));
    double tuned = power_at(&g->rates.lr, C) / sqrt(channels) * pow((double)p.rows * T / batch, 0.25);
    if (g->rates.grids) p.lr = tuned, p.like = NULL;
    if (!(p.lr > 0)) p.lr = default_lr(p.shape.C);
    return p;
}

// Write the command that trains a planned run; but with an --out of its own it only says how long that takes.
static void put_plan_command(FILE *f, const Group *g, int way, const Plan *p, int dry_run) {
    char path[PATH_MAX], compute[32], *plus;
    const Point *as = model_run(g);
    snprintf(compute, sizeof compute, "%.4g", p->C);
    if ((plus = strchr(compute, '+'))) memmove(plus, plus + 1, strlen(plus)); // 1e14, not 1e+14
    fprintf(f, "./train_optibert --objective %s --train %s --layers %zu --channels %zu --seq-len %zu",
            g->objective, find_shard(g, path) ? path : "FILE", p->shape.L, p->shape.C, p->shape.T);
    if (!p->shape.causal && as->mask_rate > 0) fprintf(f, " --mask-rate %g", as->mask_rate);
    fprintf(f, " --batch %zu --lr %.4g", p->rows, p->lr);
    if (!may_be_equal(as->grad_clip, default_settings.grad_clip))
        fprintf(f, " --grad-clip %g", as->grad_clip);
    if (!may_be_equal(as->weight_decay, default_settings.weight_decay))
        fprintf(f, " --weight-decay %g", as->weight_decay);
    if (reading.with_head) fprintf(f, " --tokens %.9g", p->shape_D);
    else fprintf(f, " --flops %.9g", p->C);
    fprintf(f, " --out best-%s%s%s-%s%s%s", g->objective, is_plain_name(g->data) ? "-" : "",
            is_plain_name(g->data) ? g->data : "", compute, g->verdict == DISAGREE ? "-by-" : "",
            g->verdict == DISAGREE ? way_names[way] : "");
    fputs(dry_run ? " --dry-run 2>&1" : "\n", f);
}

// How many seconds a planned run takes on this machine, as ./train_optibert --dry-run expects.
static double planned_seconds(const Group *g, int way, const Plan *p) {
    char *command, line[512] = "no output";
    double part[3], seconds = NAN;
    size_t size;
    FILE *f = text_open(&command, &size);
    put_plan_command(f, g, way, p, 1), text_close(f);
    f = popen(command, "r");
    while (f && isnan(seconds) && fgets(line, sizeof line, f)) {
        int n = sscanf(line, "time about %lf:%lf:%lf", &part[0], &part[1], &part[2]);
        if (n >= 2) seconds = n == 2 ? 60 * part[0] + part[1] : 3600 * part[0] + 60 * part[1] + part[2];
    }
    if (!f || pclose(f) || isnan(seconds)) die("--hours: cannot measure the speed: %s", line);
    free(command);
    return fmax(seconds, 0.5); // which it would round to 0
}

// The compute that takes so many hours on this machine, in the shape that is planned for it.
static double compute_of_hours(const Group *g, int way, double hours) {
    double C = 1e13 * hours, ratio = 0;
    char path[PATH_MAX];
    if (!*g->data) die("--hours: the points do not name their data; use --predict");
    if (!find_shard(g, path))
        die("--hours: data/%s.bin is not there; it needs this text to measure the speed on", g->data);
    for (int i = 0; i < 6 && !(fabs(log(ratio)) < 0.03); i++) {
        Plan p = make_plan(g, way, C);
        if (!p.shape.L) die("--hours: the points do not tell seq_len and vocab; use --predict");
        ratio = 3600 * hours / planned_seconds(g, way, &p);
        C *= fmin(fmax(ratio, 1e-3), 1e3);
    }
    return C;
}

// ----------------------------------------------------------------------------
// the report; what is a number in it goes to the JSON too

static FILE *json; // where to; NULL: not asked for

// The bytes of the UTF-8 character at the start of a text; 0 if it is not valid (U+FFFE and U+FFFF are not).
size_t utf8_length(const char *text) {
    return !strncmp(text, "\xef\xbf\xbe", 3) || !strncmp(text, "\xef\xbf\xbf", 3) ? 0 : utf8_bytes(text, 4);
}

// Write text as a JSON string; what is not UTF-8 becomes U+FFFD.
static void json_text(FILE *f, const char *text) {
    fputc('"', f);
    for (size_t n; *text; text += MAX(n, 1)) {
        n = utf8_length(text);
        if (*text == '"' || *text == '\\') fprintf(f, "\\%c", *text);
        else if ((unsigned char)*text < ' ') fprintf(f, "\\u%04x", *text);
        else if (n == 0) fputs("\\ufffd", f);
        else fwrite(text, 1, n, f);
    }
    fputc('"', f);
}

// Add a number to the JSON, if there is one, under this name; null if it is NAN or infinite.
__attribute__((format(printf, 2, 3)))
static void json_number(double x, const char *name, ...) {
    va_list args;
    va_start(args, name);
    if (json) fprintf(json, ",\n  \""), vfprintf(json, name, args);
    if (json && isfinite(x)) fprintf(json, "\": %.17g", x);
    else if (json) fprintf(json, "\": null");
    va_end(args);
}

// A number of a table: NUM, BAND with an interval, HIDDEN from the report, or a WORD, which the JSON lacks.
typedef struct {
    const char *name;
    int width, digits;
    double x;
    const double *interval;
    const char *word;
} Item;
#define NUM(name, width, digits, x) {name, width, digits, (double)(x), NULL, NULL}
#define BAND(name, width, digits, x, interval) {name, width, digits, x, interval, NULL}
#define HIDDEN(name, x) {name, 0, 0, (double)(x), NULL, NULL}
#define WORD(name, width, word) {name, width, 0, NAN, NULL, word}
#define LINE(key, number, note, ...)                                                                        \
    put_line(key, number, note, (const Item[]){__VA_ARGS__},                                                 \
             sizeof((const Item[]){__VA_ARGS__}) / sizeof(Item))

// Print line `number` of a table, with the names above the first, and add it to the JSON as KEYnumber_NAME.
static void put_line(const char *key, int number, const char *note, const Item *item, size_t n) {
    char text[64];
    for (const Item *i = item; i < item + n && number == 1; i++) {
        if (i->width) printf(" %*s", i->width, i->name);
        if (i->interval) printf("  %-21s", "95% interval");
    }
    if (number == 1) printf("\n");
    for (const Item *i = item; i < item + n; i++) {
        int known = i->interval && !isnan(i->interval[0]);
        if (!i->word) json_number(i->x, "%s%d_%s", key, number, i->name);
        for (int end = 0; i->interval && end < 2; end++)
            json_number(i->interval[end], "%s%d_%s_%s", key, number, i->name, end ? "hi" : "lo");
        if (i->width && (i->word || isnan(i->x))) printf(" %*s", i->width, i->word ? i->word : "-");
        else if (i->width) printf(" %*.*g", i->width, i->digits, i->x);
        if (known) snprintf(text, sizeof text, "%.3g … %.3g", i->interval[0], i->interval[1]);
        if (i->interval) printf("  %-*s", known ? 23 : 21, known ? text : "");
    }
    printf("%s%s\n", *note ? "  " : "", note);
}

// What law and minima say of the best split, and whether that is the same.
static void print_verdict(FILE *f, const Group *g) {
    for (int way = 0; way < N_WAYS; way++) {
        const PowerLaw *p = &g->split[way];
        int digits = p->exponent_hi - p->exponent_lo > 0.1 ? 2 : 3;
        if (g->refused[way]) {
            fprintf(f, "  no best split by the %s: %s\n", way_names[way], g->refused[way]);
            continue;
        }
        fprintf(f, "  F_opt ∝ C^a by the %s: a = %.*f", way_names[way], digits, p->exponent);
        if (g->n_draws) fprintf(f, " (%.*f … %.*f)", digits, p->exponent_lo, digits, p->exponent_hi);
        fprintf(f, "\n");
    }
    if (g->verdict >= AGREE)
        fprintf(f, "  verdict: law and minima %s: their F_opt are up to %.2g times apart\n",
                g->verdict == AGREE ? "agree" : "do not agree", g->apart);
    else fprintf(f, "  verdict: %s\n", g->verdict == ONE_WAY ? "one way alone: nothing to hold it against" :
                 "these points tell no best split");
}

// F_opt by law and minima, side by side.
static void report_ways(const Group *g) {
    for (int k = 0; k < 3 && g->verdict >= AGREE; k++) {
        double C = compared_C(g, k), F[2], band[3][2];
        for (int way = 0; way < N_WAYS; way++) {
            ratio_interval(g, way, NULL, 0, C, &band[way][1], &band[way][0]);
            F[way] = split_F(g, way, C);
            for (int end = 0; end < 2; end++) band[way][end] = sqrt(C / band[way][end]);
        }
        ratio_interval(g, BY_LAW, g, BY_MINIMA, C, &band[2][1], &band[2][0]);
        for (int end = 0; end < 2; end++) band[2][end] = 1 / sqrt(band[2][end]);
        LINE("compare", k + 1, "", NUM("C", 10, 3, C), BAND("law's F_opt", 12, 3, F[0], band[0]),
             BAND("minima's F_opt", 14, 3, F[1], band[1]), BAND("quotient", 9, 3, F[0] / F[1], band[2]));
    }
}

// Which numbers of the law the points determine, to a factor of 1.5 either way (E: to a tenth of the loss,
// and more than 0); and what other laws noise might have made the best.
static void report_identified(const Group *g) {
    static const int order[] = {LAW_a, LAW_ALPHA, LAW_BETA, LAW_E};
    static const char *const said[] = {"  the points do not tell",
                                       "  if this is the law, to a factor of 1.5 or so the points tell"};
    double least = range_of(g->loss, g->n_use).lo;
    for (int told = 1; told >= 0; told--) {
        int any = 0;
        for (int k = 0; k < 4 && g->n_draws; k++) {
            double lo = g->lo.v[order[k]], hi = g->hi.v[order[k]];
            int tells = order[k] == LAW_E ? lo > 0 && hi - lo < 0.1 * least : hi < 2.25 * lo;
            if (tells == told) printf("%s %s", any++ ? "," : said[told], law_names[order[k]]);
        }
        if (any) printf("\n");
    }
    for (size_t k = 0; k < g->n_alternatives; k++) {
        const Law *law = &g->alternative[k];
        printf("  another minimum, within noise of it: a %.3f, E %.4g, alpha %.3g, beta %.3g (%.6g)\n",
               law->a, law->E, law->alpha, law->beta, law->huber);
        json_number(law->a, "alternative%zu_a", k + 1);
        json_number(law->huber, "alternative%zu_huber", k + 1);
    }
}

// Two checks of a law: its E against the exact floor, and how it predicts the budget that it has not seen.
static void print_checks(FILE *f, const Group *g) {
    double floor_value = mean_floor(g);
    if (!isnan(floor_value)) {
        fprintf(f, "  the exact floor is %.4f: E - floor = %+.4f", floor_value, g->law.E - floor_value);
        if (g->n_draws) fprintf(f, " (%+.4f … %+.4f)", g->lo.E - floor_value, g->hi.E - floor_value);
        fprintf(f, "\n");
    }
    if (g->held_n)
        fprintf(f, "  held out: a fit without C ≥ %.3g predicts its %zu points %+.2f%% off (rms %.2f%%)\n",
                g->budget[g->n_budgets - 1].C, g->held_n, 100 * g->held_mean, 100 * g->held_rms);
    else fprintf(f, "  held out: nothing; without the largest budget too few points would be left\n");
}

// Print the numbers of the law, and what is known of how good they are.
static void report_law(const Group *g) {
    printf("\n  L = E + A/F^alpha + B/D^beta,  F_opt = G C^a,  D_opt = C^b / G;  Huber objective %.6g\n",
           g->law.huber);
    if (g->n_draws)
        printf("  95%% intervals by the bootstrap: %zu draws, seed %zu\n", g->n_draws, fit_opt.seed);
    for (int k = 0; k < N_LAW; k++) {
        if (k == LAW_HUBER) continue;
        printf("  %-6s %12.6g", law_names[k], g->law.v[k]);
        if (!isnan(given(k))) printf("   given");
        else if (g->n_draws) printf("   %.6g … %.6g", g->lo.v[k], g->hi.v[k]);
        printf("\n");
    }
    report_identified(g);
    print_checks(stdout, g);
}

// The residual of a used cell, in log loss: measured - law.
double residual(const Group *g, size_t i) { return log(g->loss[i] / law_loss(&g->law, g->F[i], g->D[i])); }

// The root-mean-square of all residuals.
static double root_mean_square(const Group *g) {
    double squares = 0;
    for (size_t i = 0; i < g->n_use; i++) squares += pow(residual(g, i), 2);
    return sqrt(squares / (double)g->n_use);
}

// Line `number`: the residuals of cells [from, to) whose log F/F_opt is from lo to hi. Returns the next one.
static int report_residuals(const Group *g, int number, const char *name, size_t from, size_t to, double lo,
                            double hi) {
    double n = 0, sum = 0, squares = 0;
    int way = g->refused[BY_MINIMA] ? BY_LAW : BY_MINIMA;
    for (size_t i = from; i < to; i++) {
        double off = g->refused[way] ? 0 : log(g->F[i] / split_F(g, way, g->C[i]));
        if (off < lo || off >= hi) continue;
        sum += 100 * residual(g, i), squares += pow(100 * residual(g, i), 2), n++;
    }
    if (n > 0)
        LINE("residuals", number++, "", WORD("", 14, name), NUM("points", 6, 6, n),
             NUM("mean %", 8, 2, sum / n), NUM("rms %", 8, 2, sqrt(squares / n)));
    return number;
}

// The test of fit: residuals by budget and by distance from the best size, against what seeds differ by.
static void report_fit(const Group *g) {
    double chi = 0, free = (double)g->n_use - 5, far = log(2), rms = root_mean_square(g);
    char name[32];
    int n = 1;
    for (size_t i = 0; i < g->n_use; i++) chi += g->runs[i] * pow(residual(g, i) / g->noise, 2) / free;
    printf("\n  residuals: root-mean-square error of log loss %.3g; ", rms);
    int misfit = chi > 1 + 2 * sqrt(2 / free + 2 / (double)g->repeats);
    if (g->repeats == 0 || free <= 0)
        printf("no seeds repeat a setting, so nothing tells whether that is noise\n");
    else
        printf("seeds differ by %.3g: the law %s (%.2g times that)\n", g->noise,
               misfit ? "misses more than noise" : "fits within noise", sqrt(chi));
    json_number(rms, "residual_rms"), json_number(g->repeats ? g->noise : NAN, "noise");
    json_number((double)g->repeats, "repeats");
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++) {
        snprintf(name, sizeof name, "C = %.3g", b->C);
        n = report_residuals(g, n, name, b->use, b->use + b->n_use, -INFINITY, INFINITY);
    }
    if (g->verdict != NEITHER) {
        n = report_residuals(g, n, "F < F_opt/2", 0, g->n_use, -INFINITY, -far);
        n = report_residuals(g, n, "near F_opt", 0, g->n_use, -far, far);
        n = report_residuals(g, n, "F > 2 F_opt", 0, g->n_use, far, INFINITY);
    }
    for (size_t i = 0; i < g->n_use; i++)
        if (!fit_opt.residuals) json_number(residual(g, i), "point%zu_residual", i + 1);
        else LINE("point", (int)i + 1, "", NUM("F", 12, 4, g->F[i]), NUM("D", 10, 4, g->D[i]),
                  NUM("loss", 9, 5, g->loss[i]), NUM("runs", 5, 3, g->runs[i]),
                  NUM("residual", 9, 2, residual(g, i)));
}

// Print the power law of some minima.
static void report_power(const char *name, const char *key, const PowerLaw *p) {
    json_number(p->k, "%s_k", key), json_number(p->exponent, "%s_exponent", key);
    json_number(p->exponent_lo, "%s_exponent_lo", key), json_number(p->exponent_hi, "%s_exponent_hi", key);
    printf(p->n < 2 ? "  %s: nothing, from fewer than two budgets\n" : "  %s: F_opt = ", name);
    if (p->n < 2) return;
    printf("%.4g C^%.4f", p->k, p->exponent);
    if (!isnan(p->exponent_lo)) printf(" (%.4f … %.4f)", p->exponent_lo, p->exponent_hi);
    printf(" from %zu budgets\n", p->n);
}

// Print the budgets with their minima, rates and batches, and the power laws through them.
static void report_minima(const Group *g) {
    PowerLaw pooled = fit_pooled(g);
    int wide = model_run(g)->lr > 0; // or there is nothing to show
    printf("\n  isoFLOP curves: a parabola in log F for each budget%s\n",
           wide ? "; lr, batch: chosen for the budget, of how many tried" : "");
    for (const Budget *b = g->budget; b < g->budget + g->n_budgets; b++)
        LINE("budget", (int)(b - g->budget) + 1,
             b->sizes < 3 ? "too few sizes" : b->open ? "no minimum: clipped" :
             b->edge ? "at an edge of the sizes: clipped" : b->off ? "off centre: biased" : "",
             NUM("C", 12, 3, b->C), NUM("points", 6, 6, b->n_use), NUM("sizes", 6, 6, b->sizes),
             NUM("F_opt", 10, 4, b->sizes < 3 ? NAN : b->F_opt),
             NUM("D_opt", 10, 4, b->sizes < 3 ? NAN : b->D_opt), NUM("loss", 8, 5, b->loss),
             NUM("lr", 8 * wide, 3, b->lr), NUM("lrs", 4 * wide, 3, b->lrs),
             NUM("batch", 7 * wide, 5, b->batch_tokens), NUM("batches", 7 * wide, 3, b->batches),
             HIDDEN("open", b->open), HIDDEN("edge", b->edge), HIDDEN("off", b->off),
             HIDDEN("lr_edge", b->lr_edge), HIDDEN("batch_edge", b->batch_edge));
    if (!reading.with_head) report_power("through these minima", "minima", &g->split[BY_MINIMA]);
    if (!reading.with_head) report_power("one model of all budgets", "pooled", &pooled);
    const Rates *r = &g->rates;
    if (r->grids)
        printf("  rate = %.3g C^%.3f / √channels, batch = %.3g D^%.3f tokens, from %zu budgets at which "
               "several were tried%s\n", r->lr.k, r->lr.exponent, r->batch.k, r->batch.exponent, r->known,
               r->known < 3 ? ", too few to tell how they grow" : "");
    json_number((double)r->known, "rates_known");
    json_number(r->lr.k, "lr_k"), json_number(r->lr.exponent, "lr_exponent");
    json_number(r->batch.k, "batch_k"), json_number(r->batch.exponent, "batch_exponent");
}

// Print a plan as line `number` of the table.
static void report_plan(const Group *g, int way, const Plan *p, int number) {
    char shape[32];
    double band[2], known = p->shape.L ? 1 : NAN;
    ratio_interval(g, way, NULL, 0, p->C, &band[0], &band[1]);
    snprintf(shape, sizeof shape, "%zux%zu", p->shape.L, p->shape.C);
    LINE(way == BY_MINIMA ? "minima_plan" : "plan", number, p->C > 1.1 * g->C_max ? "*" : "",
         NUM("C", 10, 3, p->C), NUM("F_opt", 8, 3, p->F), NUM("D_opt", 8, 3, p->D),
         BAND("ratio", 8, 3, p->D / p->F, band), WORD("shape", 7, p->shape.L ? shape : "-"),
         HIDDEN("layers", p->shape.L), HIDDEN("channels", p->shape.C), NUM("params", 9, 4, known * p->params),
         NUM("D/param", 7, 3, known * p->shape_D / p->params), NUM("rows", 4, 4, known * p->rows),
         NUM("steps", 8, 8, known * p->steps), NUM("lr", 8, 3, known * p->lr), NUM("loss", 7, 5, p->loss),
         NUM("F/3", 8, 2, p->smaller), NUM("3F", 8, 2, p->larger));
}

// The command of a plan, and what to know of it.
static void report_command(const Group *g, int way, const Plan *p) {
    char path[PATH_MAX];
    if (p->C > 10 * g->C_max)
        printf("  warning: this C is more than 10 times the largest of the points, %.3g\n", g->C_max);
    if (!p->shape.L || (strcmp(g->objective, "mlm") && strcmp(g->objective, "ntp"))) {
        printf("  no command: the points do not tell objective, seq_len, vocab and FLOPs per token\n");
        return;
    }
    if (!isnan(fit_opt.hours))
        printf("  C = %.3g takes %g hours here, as ./train_optibert --dry-run says\n", p->C, fit_opt.hours);
    printf("  "), put_plan_command(stdout, g, way, p, 0);
    if (!find_shard(g, path))
        printf("  FILE: the training shard of \"%s\", which is not in %s\n", g->data, path);
}

// A table of plans, from the smallest C of the points to ten times the largest, two per decade or fewer; or
// with --predict or --hours the one that is asked for, and its command.
static void report_plans(const Group *g, int way) {
    Plan p = {0};
    int one = !isnan(fit_opt.predict) || !isnan(fit_opt.hours), number = 0;
    int first = (int)ceil(2 * log10(g->C_min) - 0.01), last = (int)floor(2 * log10(10 * g->C_max) + 0.01);
    printf("\n  the best run at a compute C, by the %s%s\n", way_names[way],
           g->verdict == DISAGREE ? ", with which the other way does not agree" : "");
    for (int k = one ? last : first; k <= last; k += 1 + (last - first) / 16) {
        double C = !one ? pow(10, k / 2.0) : isnan(fit_opt.hours) ? fit_opt.predict :
                   compute_of_hours(g, way, fit_opt.hours);
        p = make_plan(g, way, C), report_plan(g, way, &p, ++number);
    }
    if (!one)
        printf("  F/3, 3F: how much higher the loss is with a third or three times F_opt, at the same C\n"
               "  *: extrapolated beyond the largest C of the points\n");
    if (p.shape.L && !g->rates.grids)
        printf("  lr and rows are those of the nearest budget, where few others were tried: a dev/sweep\n"
               "  --stage lr tries them, and dev/fit POINTS lr.csv takes its points along\n");
    if (one) report_command(g, way, &p);
}

// What these points cannot support.
static void print_warnings(FILE *f, const Group *g) {
    double least = range_of(g->loss, g->n_use).lo;
    size_t again = 0;
    const double *axis[] = {g->F, g->D, g->C};
    print_mixed(f, g);
    if (g->n_draws && g->n_units < g->n_use)
        fprintf(f, "  learning curves: intervals are over the %zu sizes, not over points of one run%s\n",
                g->n_units, g->n_units < 8 ? "; so few tell little" : "");
    if (!g->has_law) return;
    for (int k = 0; k < 3; k++) {
        Range r = range_of(axis[k], g->n_use);
        if (r.hi < 10 * r.lo)
            fprintf(f, "  warning: %c spans less than a decade, %.3g … %.3g\n", "FDC"[k], r.lo, r.hi);
    }
    for (int k = LAW_ALPHA; k <= LAW_BETA; k++)
        if (isnan(given(k)) && (g->law.v[k] <= EXPONENT_MIN * 1.0001 || g->law.v[k] >= EXPONENT_MAX * 0.9999))
            fprintf(f, "  warning: %s is at a bound, %g … %g\n", law_names[k], EXPONENT_MIN, EXPONENT_MAX);
    if (g->law.E < 1e-6 * least && isnan(given(LAW_E))) fprintf(f, "  warning: E went to 0\n");
    if (g->law.E >= least) fprintf(f, "  warning: E is above the lowest loss, %.4f\n", least);
    if (!g->converged) fprintf(f, "  warning: the fit did not converge\n");
    if (g->n_use < 12) fprintf(f, "  warning: only %zu points for 5 parameters\n", g->n_use);
    if (g->n_laws < g->n_draws)
        fprintf(f, "  warning: only %zu of %zu resamples determine a law\n", g->n_laws, g->n_draws);
    for (size_t i = 0; i < g->n_use; i++) again += g->point[g->use[i]].epochs > 4;
    if (again)
        fprintf(f, "  warning: %zu runs read their data more than 4 times: not all of D is new\n", again);
}

// For a group with mlm, the group before `end` with ntp on the same data, if both have a best split; or NULL.
static const Group *counterpart(const Group *g, const Group *end) {
    const Group *next = g + 1; // groups are sorted by data, then objective
    if (next >= end || strcmp(g->objective, "mlm") || strcmp(next->objective, "ntp")) return NULL;
    return !strcmp(g->data, next->data) && g->verdict != NEITHER && next->verdict != NEITHER ? next : NULL;
}

// The k-th of RATIOS compute budgets, evenly spaced in log C over the range that both groups have points in;
// NAN if there is no such range.
enum { RATIOS = 7 };
static double shared_budget(const Group *mlm, const Group *ntp, int k) {
    double from = fmax(mlm->C_min, ntp->C_min), to = fmin(mlm->C_max, ntp->C_max);
    return from > to ? NAN : from * pow(to / from, k / (RATIOS - 1.0));
}

// How much the head, which F leaves out, is of F_N in the best runs of both at C.
static void report_heads(const Group *mlm, const Group *ntp, double C) {
    int way = mlm->refused[BY_LAW] || ntp->refused[BY_LAW] ? BY_MINIMA : BY_LAW;
    Plan p = make_plan(mlm, way, C), q = make_plan(ntp, way, C);
    double mask = model_run(mlm)->mask_rate;
    if (reading.with_head) printf("  F includes the head\n");
    else if (p.shape.L && q.shape.L && mask > 0)
        printf("  F leaves out the head (--with-head includes it): at C = %.3g it is %.0f%% of F_N for mlm, "
               "%.0f%% for ntp\n", C, flops_per_token_head(&p.shape, mask) / p.shape_F * 100,
               flops_per_token_head(&q.shape, 1) / q.shape_F * 100);
}

// How mlm's ratio over ntp's moves with C, by one way, with its 95% interval over the draws. D_opt/F_opt is
// C / F_opt², so the quotient goes as C^x with x = 2 (a of ntp - a of mlm).
double quotient_exponent(const Group *mlm, const Group *ntp, int way, double *lo, double *hi) {
    size_t n = MIN(mlm->n_draws, ntp->n_draws);
    double *x = alloc_or_die(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = 2 * (ntp->draw_split[way][i].exponent - mlm->draw_split[way][i].exponent);
    interval_95(x, n, lo, hi);
    free(x);
    return 2 * (ntp->split[way].exponent - mlm->split[way].exponent);
}

// The best data/model ratios of the two objectives by one way, their quotient as a curve over C, and whether
// it falls or rises. Only an interval without 0 says that it does.
static void report_quotient(const Group *mlm, const Group *ntp, int way) {
    double lo, hi, x = quotient_exponent(mlm, ntp, way, &lo, &hi);
    printf("  by the %s\n", way_names[way]);
    for (int k = 0; k < RATIOS; k++) {
        double C = shared_budget(mlm, ntp, k), band[2];
        double quotient = ratio_interval(mlm, way, ntp, way, C, &band[0], &band[1]);
        LINE(way == BY_LAW ? "law_quotient" : "minima_quotient", k + 1, "", NUM("C", 12, 3, C),
             NUM("mlm", 8, 3, split_ratio(mlm, way, C)), NUM("ntp", 8, 3, split_ratio(ntp, way, C)),
             BAND("quotient", 9, 3, quotient, band));
    }
    printf("  quotient ∝ C^x by the %s: x = %.2f", way_names[way], x);
    if (!isnan(lo)) printf(" (%.2f … %.2f)%s", lo, hi, lo * hi > 0 ? "" : ", which may be 0");
    printf("\n");
    json_number(x, "quotient_x_%s", way_names[way]);
    json_number(lo, "quotient_x_%s_lo", way_names[way]), json_number(hi, "quotient_x_%s_hi", way_names[way]);
}

// The best data/model ratios of the two objectives on one data set, at compute budgets that both have.
static void report_ratios(const Group *mlm, const Group *ntp) {
    double middle = shared_budget(mlm, ntp, RATIOS / 2);
    printf("mlm and ntp%s%s: D_opt/F_opt of each, and mlm's over ntp's (the paper: 10 to 100)\n",
           *mlm->data ? " on " : "", mlm->data);
    if (isnan(middle)) printf("  no comparison: their ranges of C do not overlap\n");
    for (int way = 0; way < N_WAYS && !isnan(middle); way++)
        if (!mlm->refused[way] && !ntp->refused[way]) report_quotient(mlm, ntp, way);
    for (int i = 0; i < 2; i++)
        if ((i ? ntp : mlm)->verdict == DISAGREE)
            printf("  warning: law and minima of %s do not agree, so at most one of the quotients is right\n",
                   i ? "ntp" : "mlm");
    if (!isnan(middle)) report_heads(mlm, ntp, middle);
    printf("\n");
}

// The numbers of the JSON that begin the object of a group.
static void begin_json(const Group *g) {
    fprintf(json, "\n  \"objective\": "), json_text(json, g->objective);
    fprintf(json, ",\n  \"data\": "), json_text(json, g->data);
    for (int k = 0; k < N_LAW; k++) json_number(g->law.v[k], "%s", law_names[k]);
    for (int k = 0; k < N_LAW; k++)
        json_number(g->lo.v[k], "%s_lo", law_names[k]), json_number(g->hi.v[k], "%s_hi", law_names[k]);
    const struct { const char *name; double x; } list[] = {
        {"points", (double)g->n}, {"points_used", (double)g->count[USED]},
        {"means_used", (double)g->n_use}, {"points_too_short", (double)g->count[TOO_SHORT]},
        {"points_on_plateau", (double)g->count[ON_PLATEAU]}, {"points_copied", (double)g->count[COPY]},
        {"points_of_other_settings", (double)g->count[OTHER_SETTING]}, {"plateau", g->plateau},
        {"floor", mean_floor(g)}, {"with_head", reading.with_head}, {"fix_E", fit_opt.fixed.E},
        {"fix_alpha", fit_opt.fixed.alpha}, {"fix_beta", fit_opt.fixed.beta}, {"draws", (double)g->n_draws},
        {"seed", (double)fit_opt.seed}, {"C_min", g->C_min}, {"C_max", g->C_max}, {"converged", g->converged},
        {"held_points", (double)g->held_n}, {"held_mean", g->held_n ? g->held_mean : NAN},
        {"held_rms", g->held_n ? g->held_rms : NAN},
    };
    for (size_t k = 0; k < sizeof list / sizeof *list; k++) json_number(list[k].x, "%s", list[k].name);
    fprintf(json, ",\n  \"verdict\": "), json_text(json, verdicts[g->verdict]);
    for (int way = 0; way < N_WAYS; way++)
        fprintf(json, ",\n  \"%s_refused\": ", way_names[way]), json_text(json, g->refused[way] ?: "");
}

// Print all that there is to say about a group.
static void report_group(const Group *g) {
    if (json) begin_json(g);
    print_points(stdout, g), print_verdict(stdout, g), report_ways(g);
    if (g->has_law) report_law(g), report_fit(g);
    if (g->n_budgets) report_minima(g);
    for (int way = 0; way < N_WAYS; way++) // the minima, where they do not agree with the law or stand alone
        if (!g->refused[way] && (way == BY_LAW || g->verdict != AGREE)) report_plans(g, way);
    print_warnings(stdout, g);
    printf("\n");
}

// ----------------------------------------------------------------------------
// the program

#define TO(field) .offset = offsetof(FitSettings, field)
static Option fit_options[] = {
    {"", FILES, FREE, TO(points), 0, 0, "POINTS", ""},
    {"columns", TEXT, FREE, TO(reading.columns), 0, 0, "F,D,L",
     "names of columns: F or N=params, D or C=compute, and the loss"},
    {"flops-per", REAL, FREE, TO(reading.flops_per), 1e-9, 1e12, "X",
     "F of a unit of the size (6 for N, else 1)"},
    {"objective", TEXT, FREE, TO(reading.objective), 0, 0, "NAME", "only rows with this objective"},
    {"data", TEXT, FREE, TO(reading.data), 0, 0, "NAME", "only rows with this data"},
    {"with-head", FLAG, FREE, TO(reading.with_head), 0, 0, "", "count the head: F is F_N + F_head"},
    {"fix", TEXT, FREE, TO(fix), 0, 0, "LIST", "what is known, as in E=0.9,alpha=0.35; or alpha=beta"},
    {"predict", REAL, FREE, TO(predict), 1, 1e40, "C", "the best run at this compute, and its command"},
    {"hours", REAL, FREE, TO(hours), 0.001, 1e5, "H", "the best run that takes so long here"},
    {"residuals", FLAG, FREE, TO(residuals), 0, 0, "", "list the residual of every point"},
    {"json", TEXT, FREE, TO(json), 0, 0, "FILE", "write all results at full precision"},
    {"draws", COUNT, FREE, TO(draws), 0, 1e5, "N", "bootstrap resamples (1000; 0: no intervals)"},
    {"seed", COUNT, FREE, TO(seed), 0, 1e15, "N", "of the bootstrap (1)"},
    {"plateau", REAL, FREE, TO(reading.plateau), 1e-6, 1e6, "X", "the unigram plateau: see below"},
    {"all", FLAG, FREE, TO(reading.all), 0, 0, "", "use runs whatever their length and loss"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

static const char fit_notes[] =
    "\nRuns of two kinds tell nothing about the law and are left out: those with fewer than 200 steps, and\n"
    "those with a loss above 90% of the unigram plateau, the loss of a run that has learned only how\n"
    "frequent each token is. The plateau is the entropy of the tokens in data/NAME.bin, if that is there.\n"
    "If not, give it with --plateau; without either, ln V is used, which is higher.\n"
    "Seeds are averaged. Of several rates and batches one is chosen for each budget, by its mean over seeds\n"
    "and sizes, and used at every size.\n";

// Take --fix apart.
static void read_fixed(void) {
    char *item, *rest = strdup(fit_opt.fix), *end = NULL;
    Fix *f = &fit_opt.fixed;
    while ((item = strsep(&rest, ","))) {
        size_t n = strcspn(item, "=");
        double x = item[n] ? strtod(item + n + 1, &end) : NAN, *to =
            !strncmp(item, "E=", 2) ? &f->E : !strncmp(item, "alpha=", 6) ? &f->alpha :
            !strncmp(item, "beta=", 5) ? &f->beta : NULL;
        if (!strcmp(item, "alpha=beta")) f->tied = 1;
        else if (!to || *end || end == item + n + 1 || !(x >= (to == &f->E ? 0 : EXPONENT_MIN)) ||
                 !(x <= (to == &f->E ? 1e6 : EXPONENT_MAX)))
            die_usage("--fix %s: give E=X, alpha=X, beta=X (X from %g to %g) or alpha=beta", item,
                      EXPONENT_MIN, EXPONENT_MAX);
        else *to = x;
    }
    if (f->tied && !(isnan(f->alpha) && isnan(f->beta)))
        die_usage("--fix alpha=beta: give no number for them beside it");
}

// Check what concerns several options, take those that hold lists apart, and read and fit all points.
static Fit fit_all(void) {
    if (fit_opt.points.n == 0) die_usage("no file of loss points; give one or more, or see --help");
    if (!isnan(fit_opt.hours) && !isnan(fit_opt.predict)) die_usage("--hours, --predict: give one of them");
    reading = fit_opt.reading;
    if (reading.columns) read_columns();
    if (fit_opt.fix) read_fixed();
    Fit fit = read_files(&fit_opt.points);
    for (size_t i = 0; i < fit.n; i++) fit_group(&fit.group[i]);
    return fit;
}

int fit_main(int argc, char **argv) {
    size_t laws = 0, size;
    char *text = NULL;
    program = "fit";
    parse_options(fit_options, &fit_opt, argc, argv);
    if (fit_opt.help) {
        printf("usage: fit POINTS… [--option value …]\n\nFit a scaling law to tables of loss points.\n\n");
        print_options(fit_options);
        fputs(fit_notes, stdout);
        return 0;
    }
    Fit fit = fit_all();
    if (fit_opt.json) json = text_open(&text, &size), fputc('[', json);
    for (size_t i = 0; i < fit.n; i++) {
        const Group *g = &fit.group[i];
        if (json) fputs(i ? ", {" : "{", json);
        report_group(g);
        laws += g->has_law || g->verdict != NEITHER || g->rates.known > 0;
        if (i > 0 && counterpart(g - 1, g + 1)) report_ratios(g - 1, g);
        if (json) fputs("\n}", json);
    }
    if (json) {
        Writer w;
        fputs("]\n", json), text_close(json);
        writer_open(&w, fit_opt.json);
        fwrite(text, 1, size, w.file);
        writer_close(&w);
    }
    if (laws == 0)
        die("%s: no group of points determines a law; train runs of more sizes and lengths",
            fit_opt.points.path[0]);
    return 0;
}

#ifndef FIT_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    set_threads(0);
    return close_stdout(fit_main(argc, argv));
}
#endif
#endif
