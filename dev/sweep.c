/*
The compute sweep: train many small models at fixed compute budgets, to find the scaling law in their losses.

At a budget C, a model that takes F_N FLOPs per token is trained on D = C / F_N tokens. Each run is a process
of ./train_optibert with its own folder, runs/NAME, and is done when its result.csv is in there; the sweep
keeps no other record. So it can be stopped at any time (Ctrl-C) and started again, and several sweeps can
share a folder. The rows of all results are gathered in points.csv.

    dev/sweep                                          the default sweep: about ten minutes on two cores
    dev/sweep --stage lr                               before it: tune learning rate and batch, into lr.csv
    dev/sweep --flops 1e12,1e13 --objective mlm,ntp    other budgets, both objectives
    dev/sweep -- --train data/books_train.bin          what follows -- are options of the trainer
    dev/sweep --dry-run >runs.txt                      one command per run, for something else to run:
    sh runs.txt   or   OMP_NUM_THREADS=1 parallel <runs.txt   or   dev/sweep.sbatch, for Slurm
*/
#ifndef SWEEP_C
#define SWEEP_C
#include "points.c"
#include <dirent.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

// ----------------------------------------------------------------------------
// what is swept

enum { MAX_LIST = 64 };

typedef struct {
    size_t n;
    double x[MAX_LIST];
} List;

// Runs that differ only in size: one isoFLOP curve.
typedef struct {
    double budget, mask_rate, seed;
    double lr, batch;     // 0: whatever suits the size …
    double lr_factor;     // … times this
    int causal;
} Series;

enum { WAITING, RUNNING, DONE, FAILED };
typedef struct {
    Series *series;
    size_t size;          // its index in the shapes
    Run run;              // its settings, settled; it has no model
    char *dir;            // its folder
    int state;
    double loss;          // of a run that is done, in validation
    pid_t pid;            // of a run that is running: its process, and where to read what it writes on stderr
    int errors;
} Job;

typedef struct { // the command line
    const char *flops, *sizes, *objective, *lr, *batch, *mask_rate, *seed, *stage, *points, *lr_points, *out;
    size_t jobs;
    int dry_run, help;
} SweepSettings;

typedef struct {
    SweepSettings set;
    List flops, objective, lr, batch, mask_rate, seed; // of objective: 0 mlm, 1 ntp
    int lr_stage, is_auto;
    char **passed;            // the options after --, ended by NULL
    char suffix[512];         // those of them that decide a run's numbers, for the names of folders
    Run base;                 // the settings that all runs share, and the data
    size_t cores, n_shapes, n_series, n_jobs;
    Shape shapes[MAX_LIST];
    Series *series;           // (n_series)
    Job *jobs;                // (n_jobs)
    double began, work_before; // when training began (0: not yet), and the FLOPs that were done by then
    PowerLaw lr_law[2], batch_law[2]; // of mlm, ntp: the best rate times √channels by C; the best batch by D
} Sweep;

static const char *const objective_names[] = {"mlm", "ntp"};

// ----------------------------------------------------------------------------
// the settings of a run

// The default batch is measured, on the village with mlm. With few tokens, many small steps do better than a
// few large ones. The validation loss of 2x24 at C = 1e11 with the best of four peak rates:
//
//     rows x steps   2 x 2493   4 x 1247   8 x 623   16 x 312   32 x 156
//     loss             2.078      1.924      1.978     2.225      2.951
//     best rate        0.01       0.02       0.02      0.02       0.04 (the largest tried)
//
// Hence about 1,000 steps, of at most 32 rows. default_lr was measured with 32 rows; the best rate falls
// roughly as the fourth root of the batch (2x64 at 1e11, one row: 0.004, where default_lr is 0.0078).
enum { DEFAULT_BATCH = 32, DEFAULT_STEPS = 1000 };

// The rows in a step of a run of this many tokens.
static size_t choose_batch(const Sweep *s, const Series *series, double tokens) {
    const PowerLaw *law = &s->batch_law[series->causal];
    double T = (double)s->base.s.seq_len, want = fmin(DEFAULT_BATCH, tokens / T / DEFAULT_STEPS);
    if (series->batch > 0) return (size_t)series->batch;
    if (law->n > 0) want = rint(fmin(power_at(law, tokens) / T, 1e6));
    return choose_rows(want, tokens, T, series->causal ? 1 : series->mask_rate);
}

static double choose_lr(const Sweep *s, const Series *series, size_t channels, size_t batch, double tokens) {
    const PowerLaw *law = &s->lr_law[series->causal];
    double rate = default_lr(channels), at_batch = DEFAULT_BATCH;
    if (series->lr > 0) return series->lr;
    if (law->n > 0) {
        rate = power_at(law, series->budget) / sqrt((double)channels);
        at_batch = power_at(&s->batch_law[series->causal], tokens) / (double)s->base.s.seq_len;
    }
    return rounded(series->lr_factor * rate * pow((double)batch / at_batch, 0.25), 3);
}

// Work out everything about a run that follows from its series and its size.
static void plan_job(const Sweep *s, Job *j) {
    const Series *series = j->series;
    char data[256], mask[32] = "";
    j->run = s->base;
    Settings *run = &j->run.s;
    run->layers = s->shapes[j->size].L, run->channels = s->shapes[j->size].C;
    run->objective = objective_names[series->causal], run->mask_rate = series->mask_rate;
    run->flops = series->budget, run->seed = (size_t)series->seed;
    Run shape = j->run;
    settle(&shape);
    double tokens = series->budget / flops_per_token(&shape.c);
    run->batch = choose_batch(s, series, tokens);
    run->lr = choose_lr(s, series, run->channels, run->batch, tokens);
    settle(&j->run);
    data_name(data, &run->train);
    if (!series->causal) snprintf(mask, sizeof mask, "-mask%.9g", run->mask_rate);
    if (asprintf(&j->dir, "%s/%s-%s-%.9g-%zux%zu-lr%.9g-batch%zu%s-seed%zu%s", s->set.out, data,
                 run->objective, run->flops, run->layers, run->channels, run->lr, run->batch, mask, run->seed,
                 s->suffix) < 0)
        die("out of memory");
}

// Write a word so that the shell reads it back unchanged. It must not be empty or contain a line end.
static void put_quoted(FILE *f, const char *word) {
    for (; *word; word++) {
        if (!isalnum((unsigned char)*word) && !strchr("+-_./=,:@%", *word)) fputc('\\', f);
        fputc(*word, f);
    }
}

// The shell command, on one line, that begins a run or continues it. Both --dry-run and the sweep use it.
static void put_command(FILE *f, const Sweep *s, const Job *j) {
    const Settings *run = &j->run.s;
    fprintf(f, "./train_optibert");
    for (char **word = s->passed; *word; word++) fputc(' ', f), put_quoted(f, *word);
    fprintf(f, " --objective %s --flops %.9g --layers %zu --channels %zu --lr %.9g --batch %zu --seed %zu",
            run->objective, run->flops, run->layers, run->channels, run->lr, run->batch, run->seed);
    if (!j->run.c.causal) fprintf(f, " --mask-rate %.9g", run->mask_rate);
    // 20 validations, the trainer's default, can take longer than the training
    if (s->base.s.val_every == 0) fprintf(f, " --val-every %zu", run->steps);
    fprintf(f, " --resume --out "), put_quoted(f, j->dir), fputc('\n', f);
}

// The power laws that choose_lr and choose_batch follow, through the best runs of each budget where several
// rates or batches were tried. With fewer than three budgets they are flat: a slope through two is noise, and
// far away a large factor. (Two gave C^-0.63 for a rate, less than half of a better one at five times the C.)
//
// These points are of one size per budget. At other sizes the batch follows the tokens, not C: the batch of
// the best size would leave a wide model, which gets few tokens, too few steps. A wide model's rate is lower
// for its width but higher for its fewer steps: about 1/√channels remains. (Measured: see dev/README.md.)
static void fit_lr_points(Sweep *s, const char *path) {
    Fit fit = {0};
    char data[256];
    size_t budgets = 0;
    data_name(data, &s->base.s.train);
    reading.plateau = unigram_entropy(s->base.s.train.path[0], s->base.train.V, 0);
    read_points(&fit, path);
    for (Group *g = fit.group; g < fit.group + fit.n; g++) {
        if (strcmp(g->data, data)) continue;
        group_budgets(g);
        Rates r = tuned_rates(g);
        int causal = strcmp(g->objective, "ntp") == 0;
        s->lr_law[causal] = r.lr, s->batch_law[causal] = r.batch;
        if (r.known > 0)
            fprintf(stderr, "%s: peak rate %.3g C^%.3g / sqrt(channels), batch %.3g D^%.3g tokens (%s)\n",
                    g->objective, r.lr.k, r.lr.exponent, r.batch.k, r.batch.exponent, path);
        budgets += r.known;
    }
    if (budgets == 0) fprintf(stderr, "sweep: %s: tunes nothing for %s; using the defaults\n", path, data);
}

// ----------------------------------------------------------------------------
// results

enum { ROW_BYTES = 4096 };

// Read the first row of a file of loss points; it may be empty. Returns 0 if there is no such file, -1 if it
// has other columns than ours, or none.
static int read_first_row(const char *path, char row[ROW_BYTES]) {
    char header[sizeof result_header];
    struct stat st;
    *row = 0;
    if (stat(path, &st)) return 0;
    FILE *f = S_ISREG(st.st_mode) ? fopen(path, "r") : NULL;
    int ours = f && fgets(header, sizeof header, f) && strcmp(header, result_header) == 0;
    if (ours && !fgets(row, ROW_BYTES, f)) *row = 0;
    if (f) fclose(f);
    return ours ? 1 : -1;
}

// Write the rows of all results in DIR to FILE, sorted by the names of their folders.
static void gather_points(const Sweep *s) {
    struct dirent **entry;
    char path[PATH_MAX], row[ROW_BYTES];
    const char *dir = s->set.out;
    Writer w;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX)) // since other sweeps write FILE too
        die("%s: cannot lock this folder: %s", dir, strerror(errno));
    int n = scandir(dir, &entry, NULL, alphasort);
    if (n < 0) die("%s: cannot read this folder: %s", dir, strerror(errno));
    writer_open(&w, s->set.points);
    fputs(result_header, w.file);
    for (int i = 0; i < n; free(entry[i++])) {
        snprintf(path, sizeof path, "%s/%s/result.csv", dir, entry[i]->d_name);
        int found = entry[i]->d_name[0] == '.' ? 0 : read_first_row(path, row);
        if (found > 0) fputs(row, w.file);
        if (found < 0 && s->began == 0) fprintf(stderr, "sweep: %s: has other columns; left out\n", path);
    }
    free(entry);
    writer_close(&w);
    close(fd);
}

static size_t jobs_in(const Sweep *s, int state) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_jobs; i++) n += s->jobs[i].state == state;
    return n;
}

// The FLOPs of all runs in a state, with the head's.
static double work_in(const Sweep *s, int state) {
    double work = 0;
    for (const Job *j = s->jobs; j < s->jobs + s->n_jobs; j++) {
        double N = run_tokens(&j->run);
        if (j->state == state) work += executed_flops(&j->run.c, N, N * j->run.mask_rate);
    }
    return work;
}

// Print the loss of a run, and what is left: at the speed so far, and with half of each run that is running.
static void report_job(const Sweep *s, const Job *j) {
    double left = work_in(s, WAITING) + work_in(s, RUNNING) / 2, work = work_in(s, DONE) - s->work_before;
    char text[32];
    format_seconds(text, left * (now_seconds() - s->began) / work);
    printf("%s: validation loss %.4f; %zu of %zu runs done, %.2g FLOPs and about %s left\n",
           strrchr(j->dir, '/') + 1, j->loss, jobs_in(s, DONE), s->n_jobs, left, text);
    fflush(stdout);
}

// A run cannot be done. The others are, unless training has not begun: then it is time to tell the user.
static void fail_job(const Sweep *s, Job *j, const char *reason) {
    if (s->began == 0) die("%s: %s", j->dir, reason);
    j->state = FAILED;
    fprintf(stderr, "sweep: %s: failed: %s\n", j->dir, reason);
}

// Look for a result in the folder of a run. The run is DONE if the result is its own: if they agree in all
// columns but those that say how it went. Otherwise the result is another run's (on other data, say), which
// we must not replace, and the run has FAILED. Returns 0 if there is no result.
static int find_result(const Sweep *s, Job *j) {
    static const char outcomes[] = ",train_loss,val_loss,val_floor,seconds,threads,val_se,epochs,";
    char path[PATH_MAX], row[ROW_BYTES], own[ROW_BYTES], name[64], reason[ROW_BYTES];
    size_t n, m, k;
    snprintf(path, sizeof path, "%s/result.csv", j->dir);
    int found = read_first_row(path, row);
    if (found == 0) return 0;
    if (found < 0) return fail_job(s, j, "its result.csv has other columns; choose another --out"), 1;
    FILE *f = fmemopen(own, sizeof own, "w");
    if (!f) die("out of memory");
    print_result(f, &j->run), fclose(f);
    const char *is = row, *want = own;
    for (const char *h = result_header; *h; h += n + 1, want += k + 1, is += m + (is[m] != 0)) {
        n = strcspn(h, ",\n"), m = strcspn(is, ",\n"), k = strcspn(want, ",\n");
        snprintf(name, sizeof name, ",%.*s,", (int)n, h);
        if (strcmp(name, ",val_loss,") == 0) j->loss = strtod(is, NULL);
        if (strstr(outcomes, name) || (m == k && strncmp(is, want, m) == 0)) continue;
        snprintf(reason, sizeof reason, "holds another run: its %.*s is %.*s, not %.*s; choose another --out",
                 (int)n, h, (int)m, is, (int)k, want);
        return fail_job(s, j, reason), 1;
    }
    j->state = DONE;
    if (s->began > 0) gather_points(s), report_job(s, j);
    return 1;
}

// ----------------------------------------------------------------------------
// which runs there are

// Add the run of a series at a size. Returns 0 if it would take fewer than least_steps.
static int add_job(Sweep *s, Series *series, size_t size, size_t least_steps) {
    Job new = {.series = series, .size = size};
    plan_job(s, &new);
    if (new.run.s.steps < least_steps) return 0;
    s->jobs = realloc(s->jobs, (s->n_jobs + 1) * sizeof *s->jobs);
    if (!s->jobs) die("out of memory");
    s->jobs[s->n_jobs] = new;
    find_result(s, &s->jobs[s->n_jobs++]);
    return 1;
}

// The first runs of a series: at the sizes that were given; otherwise at six of the ladder around the likely
// best, or in stage lr only there. F_opt grows about as √C. On the village it was 2x16 at 3e11 and 2x24 at
// 1e12 for mlm; for ntp 2x24 to 2x48 were level at 1e12.
static void add_series(Sweep *s, Series *series) {
    size_t first = 0, last = s->n_shapes - 1, best = 0;
    double guess = 2e5 * sqrt(series->budget / 1e12), nearest = INFINITY, T = (double)s->base.s.seq_len;
    for (size_t i = 0; i < s->n_shapes; i++) {
        double L = (double)s->shapes[i].L, C = (double)s->shapes[i].C;
        double off = fabs(log((72 * L * C * C + 12 * L * C * T) / guess));
        if (off < nearest) nearest = off, best = i;
    }
    if (s->is_auto && s->lr_stage) first = last = best;
    else if (s->is_auto) first = best < 2 ? 0 : best - 2, last = MIN(first + 5, last);
    size_t least_steps = s->is_auto || s->lr_stage ? MIN_STEPS : 0;
    for (size_t i = first; i <= last; i++) add_job(s, series, i, least_steps);
}

// Widen the range of sizes: where all runs of a series have ended, and the best is its smallest or its
// largest, add the next size on that side. Returns how many were added.
static size_t widen_series(Sweep *s) {
    size_t added = 0, n = s->is_auto && !s->lr_stage ? s->n_series : 0;
    for (Series *series = s->series; series < s->series + n; series++) {
        size_t best = SIZE_MAX, low = SIZE_MAX, high = 0, to_do = 0;
        double loss = INFINITY;
        for (size_t i = 0; i < s->n_jobs; i++) {
            const Job *j = &s->jobs[i];
            if (j->series != series) continue;
            to_do += j->state == WAITING || j->state == RUNNING;
            low = MIN(low, j->size), high = MAX(high, j->size);
            if (j->state == DONE && j->loss < loss) loss = j->loss, best = j->size;
        }
        size_t next = best == low ? best - 1 : best + 1; // 0 - 1 is above all sizes
        if (!to_do && best < SIZE_MAX && (best == low || best == high) && next < s->n_shapes)
            added += add_job(s, series, next, MIN_STEPS);
    }
    return added;
}

// Every combination of the lists is a series; i counts through them, learning rates fastest, budgets slowest.
static void make_series(Sweep *s) {
    static const List open = {1, {0}}, factors = {5, {0.25, 0.5, 1, 2, 4}}, batches = {5, {4, 8, 16, 32, 64}};
    const List *list[] = {s->lr.n ? &s->lr : s->lr_stage ? &factors : &open,
                          s->batch.n ? &s->batch : s->lr_stage ? &batches : &open,
                          &s->seed, &s->mask_rate, &s->objective, &s->flops};
    size_t n = 1;
    for (int k = 0; k < 6; k++) n *= list[k]->n;
    s->series = alloc_or_die(n * sizeof *s->series);
    for (size_t i = 0; i < n; i++) {
        size_t rest = i;
        double x[6];
        for (int k = 0; k < 6; k++) x[k] = list[k]->x[rest % list[k]->n], rest /= list[k]->n;
        if (x[4] > 0 && x[3] != s->mask_rate.x[0]) continue; // ntp masks nothing
        Series *series = &s->series[s->n_series++];
        *series = (Series){.lr = x[0], .lr_factor = 1, .batch = x[1], .seed = x[2], .mask_rate = x[3],
                           .causal = x[4] > 0, .budget = x[5]};
        if (list[0] == &factors) series->lr = 0, series->lr_factor = x[0];
        add_series(s, series);
    }
    while (widen_series(s)) {} // as far as there are results already
    if (s->n_jobs == 0)
        die_usage("--flops: every run would take fewer than %d steps; give more, or --sizes", MIN_STEPS);
}

// ----------------------------------------------------------------------------
// the processes

static volatile sig_atomic_t n_signals = 0;

static void on_sweep_signal(int number) { stop_signal = number, n_signals++; }

// Does a trainer hold the lock of a run's folder?
static int folder_in_use(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 0;
    int in_use = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return in_use;
}

// In the child, after fork() with all signals blocked: become the trainer.
__attribute__((noreturn))
static void become_trainer(const Sweep *s, const Job *j, int errors, size_t threads, pid_t parent) {
    char *command, number[32];
    size_t size;
    sigset_t none;
    signal(SIGINT, SIG_DFL), signal(SIGTERM, SIG_DFL), signal(SIGHUP, SIG_DFL);
    setpgid(0, 0); // the terminal's Ctrl-C is for the sweep alone, which passes it on
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM); // however the sweep ends, its children save and exit
    if (getppid() != parent) _exit(1);
#else
    (void)parent; // after kill -9 the children finish their runs
#endif
    sigemptyset(&none), sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0), dup2(null, 1), dup2(errors, 2);
    snprintf(number, sizeof number, "%zu", threads);
    setenv("OMP_NUM_THREADS", number, 1);
    FILE *f = open_memstream(&command, &size);
    if (f) fprintf(f, "exec "), put_command(f, s, j), fclose(f), execl("/bin/sh", "sh", "-c", command, NULL);
    _exit(127);
}

// Begin a run, or continue it, unless someone else is training it or has done so. Returns 1 if it is running.
static int start_job(const Sweep *s, Job *j, size_t threads) {
    sigset_t all, old;
    int errors[2];
    if (folder_in_use(j->dir) || find_result(s, j)) return 0;
    if (pipe(errors)) die("%s: cannot start its process: %s", j->dir, strerror(errno));
    fcntl(errors[0], F_SETFD, FD_CLOEXEC), fcntl(errors[1], F_SETFD, FD_CLOEXEC);
    fflush(stdout);
    pid_t parent = getpid();
    sigfillset(&all), sigprocmask(SIG_BLOCK, &all, &old);
    j->pid = fork();
    if (j->pid < 0) die("%s: cannot start its process: %s", j->dir, strerror(errno));
    if (j->pid == 0) become_trainer(s, j, errors[1], threads, parent);
    sigprocmask(SIG_SETMASK, &old, NULL);
    close(errors[1]);
    j->errors = errors[0], j->state = RUNNING;
    return 1;
}

// A process has ended: see what became of its run.
static void end_job(const Sweep *s, Job *j, int status) {
    char line[512] = "";
    FILE *f = fdopen(j->errors, "r");
    while (f && fgets(line, sizeof line, f)) line[strcspn(line, "\n")] = 0; // the last line says why
    if (f) fclose(f);
    j->state = WAITING;
    if (find_result(s, j) || stop_signal || strstr(line, "another run is using this folder")) return;
    if (WIFSIGNALED(status)) snprintf(line, sizeof line, "killed by signal %d", WTERMSIG(status));
    fail_job(s, j, *line ? line : "left no result.csv; remove this folder to train it again");
}

// Train all runs, or until a signal comes. Each has one core; the last ones share the cores that become free.
static void train_all(Sweep *s) {
    int passed_on = 0, status;
    double stopped_at = 0;
    s->work_before = work_in(s, DONE), s->began = now_seconds();
    for (;;) {
        for (Job *j = s->jobs; j < s->jobs + s->n_jobs; j++)
            if (j->state == RUNNING && waitpid(j->pid, &status, WNOHANG) == j->pid) end_job(s, j, status);
        if (now_seconds() < stopped_at + 1) n_signals = passed_on; // timeout(1) sends its signal twice
        if (passed_on < n_signals) {
            passed_on = n_signals, stopped_at = now_seconds();
            for (const Job *j = s->jobs; j < s->jobs + s->n_jobs; j++)
                if (j->state == RUNNING) kill(j->pid, passed_on > 1 ? SIGKILL : SIGTERM);
            fprintf(stderr, "sweep: signal %d: %zu runs %s\n", stop_signal, jobs_in(s, RUNNING),
                    passed_on > 1 ? "are killed" : "save and end; another signal kills them");
        }
        if (!stop_signal) widen_series(s);
        size_t running = jobs_in(s, RUNNING), waiting = jobs_in(s, WAITING);
        if (running == 0 && (waiting == 0 || stop_signal)) break;
        for (size_t i = 0; i < s->n_jobs && running < s->set.jobs && !stop_signal; i++) {
            size_t at_once = MIN(s->set.jobs, running + waiting), threads = MAX(1, s->cores / at_once);
            if (s->jobs[i].state == WAITING && start_job(s, &s->jobs[i], threads)) running++, waiting--;
        }
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    gather_points(s);
}

// ----------------------------------------------------------------------------
// the command line

#define TO(field) .offset = offsetof(SweepSettings, field)
static Option sweep_options[] = {
    {"flops", TEXT, FREE, TO(flops), 0, 0, "LIST",
     "compute budgets (5e11,1.2e12,3e12,7e12; stage lr: 1e11,3e11,1e12)"},
    {"sizes", TEXT, FREE, TO(sizes), 0, 0, "LIST",
     "layers x channels, as in 2x32,2x64 (six of a ladder, more if needed)"},
    {"objective", TEXT, FREE, TO(objective), 0, 0, "LIST", "mlm, ntp or mlm,ntp (mlm)"},
    {"lr", TEXT, FREE, TO(lr), 0, 0, "LIST", "peak learning rates (from lr.csv, or else by width and batch)"},
    {"batch", TEXT, FREE, TO(batch), 0, 0, "LIST", "rows in a step (from lr.csv, or else for 1,000 steps)"},
    {"mask-rate", TEXT, FREE, TO(mask_rate), 0, 0, "LIST", "share of the tokens that mlm masks (0.2)"},
    {"seed", TEXT, FREE, TO(seed), 0, 0, "LIST", "(1)"},
    {"stage", TEXT, FREE, TO(stage), 0, 0, "NAME",
     "isoflop; lr: one size per budget, many rates and batches (isoflop)"},
    {"points", TEXT, FREE, TO(points), 0, 0, "FILE",
     "gets the rows of all results in DIR (points.csv; stage lr: lr.csv)"},
    {"lr-points", TEXT, FREE, TO(lr_points), 0, 0, "FILE",
     "results of a stage lr, to choose --lr and --batch by (lr.csv)"},
    {"out", TEXT, FREE, TO(out), 0, 0, "DIR", "for a folder of each run (runs; stage lr: runs/lr)"},
    {"jobs", COUNT, FREE, TO(jobs), 1, 4096, "N", "runs at once (as many as there are cores)"},
    {"dry-run", FLAG, FREE, TO(dry_run), 0, 0, "", "print a command for each run that is not done"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

static void add_to_list(List *list, const char *name, double x) {
    size_t i = 0;
    while (i < list->n && list->x[i] != x) i++;
    if (i == MAX_LIST) die_usage("--%s: more than %d values; make several sweeps", name, MAX_LIST);
    if (i == list->n) list->x[list->n++] = x; // a value that is given twice is tried once
}

// A list of what could be the value of this option of the trainer.
static void read_list(List *list, const char *name, const char *text) {
    const Option *o = find_option(trainer_options, name);
    char *item, *rest = text ? strdup(text) : NULL;
    Settings value;
    while ((item = strsep(&rest, ","))) {
        set_option(o, &value, item);
        if (o->type == COUNT) add_to_list(list, name, (double)*(size_t *)option_value(o, &value));
        else add_to_list(list, name, rounded(*(double *)option_value(o, &value), 9));
    }
}

// The objectives; and the sizes, which are those of the ladder that --heads divides unless others are given.
static void read_objectives_and_sizes(Sweep *s, const char *objectives, const char *sizes) {
    char *item, *rest = strdup(objectives), extra;
    size_t heads = s->base.s.heads;
    while ((item = strsep(&rest, ","))) {
        int causal = strcmp(item, "ntp") == 0;
        if (!causal && strcmp(item, "mlm")) die_usage("--objective %s: must be mlm or ntp, or both", item);
        add_to_list(&s->objective, "objective", causal);
    }
    for (rest = s->is_auto ? NULL : strdup(sizes); (item = strsep(&rest, ","));) {
        Shape *shape = &s->shapes[s->n_shapes++];
        if (s->n_shapes > MAX_LIST) die_usage("--sizes: more than %d values; make several sweeps", MAX_LIST);
        if (sscanf(item, "%4zux%5zu%c", &shape->L, &shape->C, &extra) != 2 || strpbrk(item, "+- ") ||
            shape->L < 1 || shape->C < 2)
            die_usage("--sizes %s: must be layers x channels, as in 2x32,2x64", item);
    }
    for (size_t i = 0; i < N_LADDER && s->is_auto; i++)
        if (heads == 0 || ladder[i].C % (2 * heads) == 0) s->shapes[s->n_shapes++] = ladder[i];
    if (s->n_shapes == 0) die_usage("--heads %zu: divides no size of the ladder; give --sizes", heads);
}

// The options after --, as the trainer reads them. Those that decide a run's numbers become part of its name.
static void read_passed(Sweep *s, int argc, char **argv) {
    static const char ours[] = ",layers,channels,objective,mask-rate,batch,steps,tokens,flops,lr,seed,"
                               "threads,init,keep,out,resume,overwrite,dry-run,help,";
    char *end = s->suffix, name[32];
    s->base.s = default_settings, s->passed = argv + (argc > 0);
    parse_options(trainer_options, &s->base.s, argc, argv);
    for (const Option *o = trainer_options; o->name; o++) {
        const void *value = option_value(o, &s->base.s);
        snprintf(name, sizeof name, ",%s,", o->name);
        if (!o->given) continue;
        if (strstr(ours, name)) die_usage("--%s: is set by the sweep; leave it out after --", o->name);
        if (o->kind != BIND) continue;
        double x = o->type == COUNT ? (double)*(const size_t *)value : *(const double *)value;
        end += sprintf(end, "-%s%.9g", o->name, x);
    }
}

static void print_sweep_help(void) {
    printf("usage: sweep [--option value …] [-- options of the trainer]\n\n"
           "Train models of several sizes at each compute budget C, on D = C / F_N tokens. You may stop this\n"
           "and start it again at any time, and start several at once. Separate the items of a LIST by commas.\n\n");
    print_options(sweep_options);
}

// Read the command line, and the data.
static void open_sweep(Sweep *s, int argc, char **argv) {
    SweepSettings *set = &s->set;
    int here = 1; // arguments before --
    char row[ROW_BYTES];
    while (here < argc && strcmp(argv[here], "--")) here++;
    *set = (SweepSettings){.objective = "mlm", .mask_rate = "0.2", .seed = "1", .stage = "isoflop"};
    parse_options(sweep_options, set, here, argv);
    if (set->help) return;
    int lr = s->lr_stage = strcmp(set->stage, "lr") == 0;
    s->is_auto = !set->sizes || strcmp(set->sizes, "auto") == 0;
    if (!lr && strcmp(set->stage, "isoflop")) die_usage("--stage %s: must be isoflop or lr", set->stage);
    if (!set->flops) set->flops = lr ? "1e11,3e11,1e12" : "5e11,1.2e12,3e12,7e12";
    if (!set->points) set->points = lr ? "lr.csv" : "points.csv";
    if (!set->out) set->out = lr ? "runs/lr" : "runs";
    for (int i = 1; i < argc; i++)
        if (strchr(argv[i], '\n')) die_usage("a command must fit on one line; use no names with line ends");
    read_list(&s->flops, "flops", set->flops), read_list(&s->lr, "lr", set->lr);
    read_list(&s->batch, "batch", set->batch), read_list(&s->seed, "seed", set->seed);
    read_list(&s->mask_rate, "mask-rate", set->mask_rate);
    read_passed(s, argc - here, argv + here);
    read_objectives_and_sizes(s, set->objective, set->sizes);
    if (access("train_optibert", X_OK))
        die("./train_optibert: cannot be run: %s; run make, then dev/sweep in its folder", strerror(errno));
    if (read_first_row(set->points, row) < 0)
        die("--points %s: not written by this program; move it away, or choose another", set->points);
    // One core each is best: two runs of 2x32 (600 steps of 8 rows) took 1.7 s side by side, and 4.6 s one
    // after the other on both cores; two of 4x128 (20 steps of 32 rows) 5.4 and 5.9 s. (On a busy machine.)
    s->cores = (size_t)MAX(1, usable_cores());
    if (set->jobs == 0) set->jobs = s->cores;
    open_data(&s->base);
    if (!set->lr_points && access("lr.csv", F_OK) == 0) set->lr_points = "lr.csv";
    if (set->lr_points && !lr) fit_lr_points(s, set->lr_points);
}

int sweep_main(int argc, char **argv) {
    static Sweep s;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    double epochs = 0;
    program = "sweep";
    open_sweep(&s, argc, argv);
    if (s.set.help) return print_sweep_help(), 0;
    make_series(&s);
    for (size_t i = 0; i < s.n_jobs; i++) {
        epochs = fmax(epochs, run_epochs(&s.jobs[i].run));
        if (s.set.dry_run && s.jobs[i].state != DONE) put_command(stdout, &s, &s.jobs[i]);
    }
    if (s.set.dry_run) return 0;
    make_folders(s.set.out);
    gather_points(&s);
    fprintf(stderr, "%zu runs, %zu of them done; %.3g FLOPs to do, %zu runs at once on %zu cores\n", s.n_jobs,
            jobs_in(&s, DONE), work_in(&s, WAITING), s.set.jobs, s.cores);
    if (epochs > 1)
        fprintf(stderr, "the data is read up to %.3g times; %.2g tokens would be read only once "
                "(data/village --tokens)\n", epochs, epochs * (double)s.base.train.total);
    for (int i = 0; i < 3; i++) // one that is ignored, as under nohup, stays ignored
        if (signal(signals[i], on_sweep_signal) == SIG_IGN) signal(signals[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL); // if it were ignored, there would be no children to wait for
    train_all(&s);
    if (jobs_in(&s, WAITING) > 0) return 128 + stop_signal;
    if (jobs_in(&s, FAILED) > 0)
        die("%zu of %zu runs failed; the same command tries them again", jobs_in(&s, FAILED), s.n_jobs);
    fprintf(stderr, "all %zu runs are done; their results are in %s\n", s.n_jobs, s.set.points);
    return 0;
}

#ifndef SWEEP_NO_MAIN
int main(int argc, char **argv) {
    open_streams();
    return close_stdout(sweep_main(argc, argv));
}
#endif
#endif
