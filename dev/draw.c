/*
From series of marks to pictures. A plot holds them and what its axes are called; draw() finds the axes and
writes each plot as an <svg>, 420 units wide: about a telephone's screen, so that the text stays readable
there. Nothing here knows what a law is. (dev/plot includes it after fit.c. It ends when all is drawn, so
nothing is freed.)
*/
#ifndef DRAW_C
#define DRAW_C

// ----------------------------------------------------------------------------
// text

// Write n bytes of text so that they can be inside an element or an attribute. What XML does not allow,
// control characters and bytes that are not UTF-8, becomes U+FFFD.
static void put_escaped(FILE *f, const char *text, size_t n) {
    for (const char *end = text + n; text < end;) {
        size_t bytes = utf8_length(text);
        if (bytes == 0 || (unsigned char)*text < ' ' || *text == 0x7f) fputs("\xef\xbf\xbd", f);
        else if (*text == '<') fputs("&lt;", f);
        else if (*text == '>') fputs("&gt;", f);
        else if (*text == '&') fputs("&amp;", f);
        else if (*text == '"') fputs("&quot;", f);
        else fwrite(text, 1, bytes, f);
        text += MAX(bytes, 1);
    }
}

// A number as a person would write it: 0.0123, 4500, −2, 2.5×10⁷. The string is valid until 16 more are made.
static const char *number_text(double x, int digits) {
    static char ring[16][64];
    static int next;
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    char *text = ring[next = (next + 1) % 16], *end = text, plain[32];
    if (!isfinite(x)) return "–";
    snprintf(plain, sizeof plain, "%.*e", digits - 1, fabs(x));
    int power = atoi(strchr(plain, 'e') + 1);
    end += sprintf(end, "%s", x < 0 ? "−" : "");
    if (power >= -3 && power < 4) {
        sprintf(end, "%.*g", MAX(digits, power + 1), fabs(x));
        return text;
    }
    double mantissa = (*strchr(plain, 'e') = 0, atof(plain));
    if (mantissa != 1) end += sprintf(end, "%g×", mantissa);
    end += sprintf(end, "10%s", power < 0 ? "⁻" : "");
    snprintf(plain, sizeof plain, "%d", abs(power));
    for (const char *s = plain; *s; s++) end += sprintf(end, "%s", raised[*s - '0']);
    return text;
}

// Write text with its formulas set: F_opt with a subscript, C^0.7 with a superscript, 3e+12 as a person would
// write it, a true minus. In an <svg> what follows such a shift is brought back by an invisible character.
static void put_rich(FILE *f, const char *text, int in_svg) {
    static const char *const tags[2][2][2] = {
        {{"<sup>", "</sup>"}, {"<sub>", "</sub>"}},
        {{"<tspan class=\"small\" dy=\"-5\">", "</tspan><tspan dy=\"5\">\xe2\x80\x8b</tspan>"},
         {"<tspan class=\"small\" dy=\"4\">", "</tspan><tspan dy=\"-4\">\xe2\x80\x8b</tspan>"}}};
    for (const char *s = text; *s;) {
        int after_word = s > text && isalnum((unsigned char)s[-1]);
        int after_letter = after_word && (s - 1 == text || !isalnum((unsigned char)s[-2])); // a single one
        int low = *s == '_' && after_letter && strchr("FD", s[-1]), high = *s == '^' && after_word;
        if (low || high) {
            const char *const *tag = tags[in_svg][low];
            size_t n = strcspn(++s, " ,;:()/_^");
            while (n && s[n - 1] == '.') n--;
            fputs(tag[0], f);
            if (*s == '-') fputs("−", f), s++, n--;
            put_escaped(f, s, n), fputs(tag[1], f);
            s += n;
        } else if (isdigit((unsigned char)*s) && !after_word && s[strspn(s, "0123456789.")] == 'e') {
            char *end;
            double x = strtod(s, &end);
            put_escaped(f, number_text(x, 3), strlen(number_text(x, 3)));
            s = end;
        } else if (*s == '-' && !after_word && isdigit((unsigned char)s[1])) fputs("−", f), s++;
        else put_escaped(f, s, 1), s += MAX(1, utf8_length(s));
    }
}

// With three digits, as most numbers here that have no interval.
static const char *num3(double x) { return number_text(x, 3); }

// "29 (11 … 280)", with as many significant digits as the interval allows: the last one is about a tenth of
// it. Without an interval the number alone, with three. The string is valid until four more are made.
static const char *interval_text(double x, double lo, double hi) {
    static char ring[4][200];
    static int next;
    char *text = ring[next = (next + 1) % 4];
    if (isnan(lo) || isnan(hi)) return num3(x);
    int digits = (int)fmin(fmax(1 + ceil(log10(fabs(x) / (hi - lo))), 2), 6);
    snprintf(text, 200, "%s (%s … %s)", number_text(rounded(x, digits), digits),
             number_text(rounded(lo, digits), digits), number_text(rounded(hi, digits), digits));
    return text;
}

// The most that a string is wide at a font size of 13: its width in a wide font, DejaVu Sans.
static double text_width(const char *text) {
    double width = 0;
    for (; *text; text++)
        if ((*text & 0xc0) != 0x80)
            width += strchr("mwMW", *text) || (unsigned char)*text > 0xe2 ? 13 : // ideographs and such
                     strchr(" ,.:'()ijlftrI_^", *text) ? 5.4 :
                     strchr("\xc2\xe2", *text) ? 6.5 : // superscripts
                     isupper((unsigned char)*text) ? 10 : 8.4;
    return width;
}

// ----------------------------------------------------------------------------
// axes

enum { MAX_TICKS = 16, PLOT_WIDTH = 420, MARGIN = 10 };

typedef struct {
    double lo, hi;   // the values at its ends …
    double from, to; // … and the coordinates of the ends
    int log;
} Axis;

// An axis that shows a range and a little more. log_scale is 1, 0, or -1: logarithmic if the range is wide.
static Axis axis_over(Range r, int log_scale) {
    Axis a = {.log = log_scale < 0 ? r.lo > 0 && r.hi > 2.5 * r.lo : log_scale};
    if (!(r.lo <= r.hi)) r = (Range){1, 2};
    if (a.log) r.lo = fmin(fmax(r.lo, 1e-150), 1e150), r.hi = fmin(fmax(r.hi, r.lo), 1e150);
    double more = fmax(0.05 * (r.hi - r.lo), 1e-3 * fmax(fabs(r.hi), 1e-150));
    if (a.log) more = fmin(fmax(pow(r.hi / r.lo, 0.05), 1.02), 10);
    a.lo = a.log ? r.lo / more : r.lo - more;
    a.hi = a.log ? r.hi * more : r.hi + more;
    return a;
}

// The coordinate of a value. Values far outside the axis are moved to 20 times its length.
static double axis_place(const Axis *a, double x) {
    double t = a->log ? log(x / a->lo) / log(a->hi / a->lo) : (x - a->lo) / (a->hi - a->lo);
    return isnan(t) ? NAN : a->from + fmin(fmax(t, -20), 20) * (a->to - a->from);
}

static int axis_holds(const Axis *a, double x) { return x >= a->lo && x <= a->hi; }

// Find round values on the axis, at most `most` of them (and MAX_TICKS): on a log axis 1, 2 and 5 of each
// decade, or only powers of ten. If that gives too few, or on a linear axis, they are evenly spaced, by 1, 2
// or 5 times a power of ten.
static size_t axis_ticks(const Axis *a, double *tick, size_t most) {
    static const double mantissa[] = {1, 2, 5};
    most = MIN(most, MAX_TICKS);
    for (int every = 0; a->log && every < 640; every++) { // 0: 1, 2, 5; else powers of 10^every
        size_t n = 0;
        int first = (int)floor(log10(a->lo)), last = (int)ceil(log10(a->hi));
        for (int e = first; e <= last; e++)
            for (int m = 0; m < (every ? 1 : 3); m++) {
                double x = mantissa[m] * pow(10, e);
                if (!axis_holds(a, x) || (every && e % every)) continue;
                if (n < most) tick[n] = x;
                n++;
            }
        if (n > most) continue;
        if (n >= 3 || (n == 2 && every) || every > 1) return n;
        break;
    }
    double span = a->hi - a->lo, unit = pow(10, floor(log10(span / (double)most)));
    for (int k = 0;; k++) {
        double step = mantissa[k % 3] * unit * pow(10, k / 3), first = ceil(a->lo / step - 1e-9);
        size_t n = (size_t)fmax(0, floor(a->hi / step + 1e-9) - first + 1);
        if (n > most) continue;
        for (size_t i = 0; i < n; i++) tick[i] = (first + (double)i) * step;
        return n;
    }
}

// As many ticks as fit on an axis of this length without their labels touching, be they side by side or one
// above the other.
static size_t ticks_apart(Axis a, double *tick, double length, int side_by_side) {
    a.from = 0, a.to = length;
    for (size_t most = 7;; most--) {
        size_t n = axis_ticks(&a, tick, most), touch = 0;
        double free_from = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            double place = axis_place(&a, tick[i]);
            double half = side_by_side ? text_width(number_text(tick[i], 6)) / 2 + 2 : 8;
            if (side_by_side) place = fmin(place, length + MARGIN - half); // the last label ends with the plot
            touch |= place - half < free_from, free_from = place + half;
        }
        if (!touch || most == 1) return n;
    }
}

// ----------------------------------------------------------------------------
// plots

// s0 … s5 tell series apart: the colours of Okabe and Ito, which colour-blind people can distinguish, lighter
// on dark backgrounds. r0 … r8 are a ramp: viridis, without the end that is close to the background.
static const char plot_style[] =
    ":root{--bg:#fff;--ink:#1b1f24;--soft:#57606a;--grid:#e4e7eb}\n"
    ".s0{--c:#0072b2}.s1{--c:#d55e00}.s2{--c:#009e73}.s3{--c:#cc79a7}.s4{--c:#56b4e9}.s5{--c:#3a3a3a}\n"
    ".r0{--c:#440154}.r1{--c:#482273}.r2{--c:#424085}.r3{--c:#375a8c}.r4{--c:#2d728e}.r5{--c:#24898d}"
    ".r6{--c:#229f87}.r7{--c:#35b579}.r8{--c:#5fc860}\n"
    ".ink{--c:var(--ink)}.soft{--c:var(--soft)}\n"
    "@media (prefers-color-scheme:dark){\n"
    ":root{--bg:#0d1117;--ink:#e6edf3;--soft:#9aa4b0;--grid:#262c34}\n"
    ".s0{--c:#56b4e9}.s1{--c:#f0894a}.s2{--c:#2fc89b}.s3{--c:#cc79a7}.s4{--c:#f0e442}.s5{--c:#cccccc}\n"
    ".r0{--c:#32668d}.r1{--c:#297b8e}.r2{--c:#21908c}.r3{--c:#22a486}.r4{--c:#38b777}.r5{--c:#5ec861}"
    ".r6{--c:#90d643}.r7{--c:#c7e026}.r8{--c:#fde725}}\n"
    "svg{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "text{fill:var(--ink)}.t{font-weight:600;font-size:14px}.tick,.faint{fill:var(--soft)}\n"
    ".m{text-anchor:middle}.e{text-anchor:end}.bg{fill:var(--bg)}.small{font-size:80%}\n"
    ".name{font-size:12px;paint-order:stroke;stroke:var(--bg);stroke-width:3.5px;stroke-linejoin:round}\n"
    ".grid{stroke:var(--grid);stroke-width:1}.frame{stroke:var(--soft);stroke-width:1}\n"
    ".line,.dash,.dots,.hair,.bar{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}\n"
    ".dash{stroke-width:1.7;stroke-dasharray:6 3.5}.dots{stroke-width:1.5;stroke-dasharray:1.5 4}\n"
    ".hair{stroke-width:1.2}.bar{stroke-width:1.4}.out{opacity:.38}\n"
    ".band{fill:var(--c);opacity:.17}.band.out{opacity:.08}\n"
    ".dot{fill:var(--c);stroke:var(--bg);stroke-width:.8}\n"
    ".ring{fill:var(--bg);stroke:var(--c);stroke-width:1.6}\n"
    ".tiny{fill:none;stroke:var(--c);stroke-width:1;opacity:.55}\n";

enum { SAMPLES = 97 }; // points of a curve

// A point of a line or of a scatter, with the interval that a band or a bar shows (NAN: none), the words that
// a browser shows when the mouse is over it (NULL: none), and a colour (NULL: the series').
typedef struct {
    double x, y, lo, hi;
    char *words;
    const char *colour;
} Mark;

// A series of marks that are drawn in one way. That is one of line, dash, dots, hair and band, which join the
// marks in their order, or dot, ring and tiny. The legend explains it above the frame, the name stands at its
// last mark; both may be "".
typedef struct {
    const char *how, *colour;
    char legend[100], name[100];
    double from, to; // beyond these x it is an extrapolation, and faded
    int aside;       // the axes need not show it
    size_t n;
    Mark *mark;
} Trace;

// A picture to be.
typedef struct {
    char file[300], title[400]; // of the file: its name, without folder and suffix
    char x_label[100], y_label[100];
    int x_log, y_log, column;   // as axis_over has them; 0, or in which column of the page it stands
    double height;
    size_t n;
    Trace *trace;
    char *words;                // the caption
    size_t words_size;
    FILE *caption;
} Plot;

typedef struct {
    size_t n;
    Plot **plot;
} Plots;

// Add a series to a plot. It stays where it is until the next one is added.
static Trace *add_trace(Plot *p, const char *how, const char *colour, const char *legend) {
    p->trace = make_room(p->trace, p->n, sizeof *p->trace);
    Trace *s = &p->trace[p->n++];
    *s = (Trace){.how = how, .colour = colour, .from = -INFINITY, .to = INFINITY};
    snprintf(s->legend, sizeof s->legend, "%s", legend);
    return s;
}

// Add a mark with its interval to a series. words may be NULL.
static Mark *add_interval(Trace *s, double x, double y, double lo, double hi, const char *words) {
    s->mark = make_room(s->mark, s->n, sizeof *s->mark);
    s->mark[s->n] = (Mark){x, y, lo, hi, words ? strdup(words) : NULL, NULL};
    return &s->mark[s->n++];
}

static Mark *add_mark(Trace *s, double x, double y, const char *words) {
    return add_interval(s, x, y, NAN, NAN, words);
}

// Make a series a level y, over a range of x; with a band, so far to both sides.
static void add_rule(Trace *s, Range x, double y, double far) {
    add_interval(s, x.lo, y, y - far, y + far, NULL), add_interval(s, x.hi, y, y - far, y + far, NULL);
}

// Is the piece of a line behind mark number i an extrapolation?
static int is_beyond(const Trace *s, size_t i) {
    double middle = (s->mark[i].x + s->mark[i + 1].x) / 2;
    return middle < s->from || middle > s->to;
}

// The k-th of SAMPLES values from lo to hi, evenly spaced in their logs.
static double sample(double lo, double hi, int k) { return lo * pow(hi / lo, k / (SAMPLES - 1.0)); }

// Is it of dots, and not of lines?
static int is_scatter(const Trace *s) {
    return !strcmp(s->how, "dot") || !strcmp(s->how, "ring") || !strcmp(s->how, "tiny");
}

// The ranges that the marks of a plot take up. A band may be far wider than what can be shown; on a log axis
// it counts up to 30 times the curve in it.
static void plot_ranges(const Plot *p, Range *x, Range *y) {
    for (const Trace *s = p->trace; s < p->trace + p->n; s++)
        for (const Mark *m = s->mark; m < s->mark + s->n && !s->aside; m++) {
            if ((p->x_log && m->x <= 0) || (p->y_log && m->y <= 0)) continue;
            range_add(x, m->x), range_add(y, m->y);
            if (isnan(m->y) || isnan(m->lo)) continue;
            range_add(y, p->y_log > 0 ? fmax(m->lo, m->y / 30) : m->lo);
            range_add(y, p->y_log > 0 ? fmin(m->hi, m->y * 30) : m->hi);
        }
}

// Write text, as put_rich does, at a place in an <svg>.
__attribute__((format(printf, 5, 6)))
static void draw_text(FILE *f, double x, double y, const char *class, const char *format, ...) {
    char text[800];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    put_rich(f, text, 1);
    fprintf(f, "</text>\n");
}

// Write the legend of a plot in rows, each entry after a sample. Returns the y below it.
static double put_legend(FILE *f, const Plot *p) {
    double x = MARGIN, y = 38;
    for (const Trace *s = p->trace; s < p->trace + p->n; s++) {
        int round = is_scatter(s), band = !strcmp(s->how, "band");
        double space = round ? 15 : 27, width = space + text_width(s->legend);
        if (!*s->legend) continue;
        if (x > MARGIN && x + width > PLOT_WIDTH - MARGIN) x = MARGIN, y += 19;
        fprintf(f, round ? "<circle class=\"%s %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n" :
                band ? "<path class=\"%s %s\" d=\"M%.1f %.1fm0 -5h22v10h-22z\"/>\n" :
                "<path class=\"%s %s\" d=\"M%.1f %.1fh22\"/>\n", s->how, s->colour, x + 5 * round, y - 4.5);
        draw_text(f, x + space, y, "", "%s", s->legend);
        x += width + 12;
    }
    return x > MARGIN ? y + 24 : y;
}

// Draw the grid and label the axes, which know their coordinates by now.
static void put_axes(FILE *f, const Plot *p, const Axis *x, const Axis *y) {
    double tick[MAX_TICKS];
    size_t n = ticks_apart(*y, tick, p->height, 0);
    for (size_t i = 0; i < n; i++) {
        double place = axis_place(y, tick[i]);
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", x->from, place, x->to);
        draw_text(f, x->from - 6, place + 4.5, "tick e", "%s", number_text(tick[i], 6));
    }
    n = ticks_apart(*x, tick, x->to - x->from, 1);
    for (size_t i = 0; i < n; i++) {
        const char *text = number_text(tick[i], 6);
        double place = axis_place(x, tick[i]), half = text_width(text) / 2;
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>\n", place, y->to, y->from);
        draw_text(f, fmin(fmax(place, half), PLOT_WIDTH - half), y->from + 18, "tick m", "%s", text);
    }
    fprintf(f, "<path class=\"frame\" d=\"M%.1f %.1fH%.1f\"/>\n", x->from, y->from, x->to);
    draw_text(f, (x->from + x->to) / 2, y->from + 38, "faint m", "%s", p->x_label);
}

// Draw the marks [from, to] of a series as one line with its band, faded if it is beyond the runs.
static void put_run(FILE *f, const Trace *s, size_t from, size_t to, const Axis *x, const Axis *y) {
    const char *fade = is_beyond(s, from) ? " out" : "";
    const Mark *first = s->mark + from, *last = s->mark + to;
    int drawing = 0, banded = 1;
    for (const Mark *m = first; m <= last; m++) banded &= m->lo < m->hi;
    if (banded) { // there and back
        fprintf(f, "<path class=\"band %s%s\" d=\"M", s->colour, fade);
        for (const Mark *m = first; m <= last; m++)
            fprintf(f, "%s%.1f %.1f", m > first ? "L" : "", axis_place(x, m->x), axis_place(y, m->hi));
        for (const Mark *m = last; m >= first; m--)
            fprintf(f, "L%.1f %.1f", axis_place(x, m->x), axis_place(y, m->lo));
        fprintf(f, "Z\"/>\n");
    }
    if (!strcmp(s->how, "band")) return;
    fprintf(f, "<path class=\"%s %s%s\" d=\"M0 0", s->how, s->colour, fade);
    for (const Mark *m = first; m <= last; m++) {
        double place_x = axis_place(x, m->x), place_y = axis_place(y, m->y);
        int good = !isnan(place_x) && !isnan(place_y); // others are gaps
        if (good) fprintf(f, "%c%.1f %.1f", drawing ? 'L' : 'M', place_x, place_y);
        drawing = good;
    }
    fprintf(f, "\"/>\n");
}

// Draw a series. Returns how many of its dots lie outside the axes, and are not drawn.
static size_t put_trace(FILE *f, const Trace *s, const Axis *x, const Axis *y) {
    size_t outside = 0;
    for (size_t i = 0, k; i + 1 < s->n && !is_scatter(s); i = k) { // runs of marks, faded or not
        for (k = i + 1; k + 1 < s->n && is_beyond(s, k) == is_beyond(s, i);) k++;
        put_run(f, s, i, k, x, y);
    }
    for (const Mark *m = s->mark; m < s->mark + s->n && is_scatter(s); m++) {
        const char *colour = m->colour ? m->colour : s->colour;
        double cx = axis_place(x, m->x);
        if (!axis_holds(x, m->x) || !axis_holds(y, m->y)) {
            outside++;
            continue;
        }
        if (m->lo < m->hi)
            fprintf(f, "<path class=\"bar %s\" d=\"M%.1f %.1fV%.1f\"/>\n", colour, cx, axis_place(y, m->hi),
                    axis_place(y, m->lo));
        fprintf(f, "<circle class=\"%s %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\">", s->how, colour, cx,
                axis_place(y, m->y), *s->how == 't' ? 2.3 : *s->how == 'r' ? 4.5 : 3.5);
        if (m->words) fputs("<title>", f), put_escaped(f, m->words, strlen(m->words)), fputs("</title>", f);
        fputs("</circle>\n", f);
    }
    return outside;
}

// What a name must not touch: from left to right, and some height around the middle.
typedef struct {
    double left, middle, right;
} Taken;

static int is_free(const Taken *taken, size_t n, const Taken *at) {
    for (const Taken *t = taken; t < taken + n; t++)
        if (fabs(t->middle - at->middle) < 12.5 && t->left < at->right && t->right > at->left) return 0;
    return 1;
}

// Find a place for the name of a series: to the right of its last mark in the frame, above or below that, to its
// left, or above that, wherever first nothing is; else at an earlier mark, if they are dots.
static int find_place(const Trace *s, const Axis *x, const Axis *y, const Taken *taken, size_t n, Taken *at) {
    static const struct { int left; double down; } place[] = {{0, 0}, {0, -13}, {0, 13}, {1, 0}, {1, -13}};
    double width = 0.93 * text_width(s->name);
    for (size_t k = s->n; k-- > 0;) {
        if (!axis_holds(x, s->mark[k].x) || !axis_holds(y, s->mark[k].y)) continue;
        for (size_t c = 0; c < sizeof place / sizeof *place; c++) {
            at->left = axis_place(x, s->mark[k].x) + (place[c].left ? -6 - width : 6), at->right = at->left + width;
            at->middle = axis_place(y, s->mark[k].y) + place[c].down;
            if (at->left >= x->from && at->middle > y->to && at->middle < y->from - 3 && is_free(taken, n, at)) return 1;
        }
        if (!is_scatter(s)) break;
    }
    return 0;
}

// Write the names of the series, those of the last series first. They touch no other name, and where that is
// possible no dot.
static void put_names(FILE *f, const Plot *p, const Axis *x, const Axis *y) {
    size_t marks = 0, dots = 0, n;
    for (const Trace *s = p->trace; s < p->trace + p->n; s++) marks += s->n;
    Taken *taken = alloc_or_die((marks + p->n) * sizeof *taken);
    for (const Trace *s = p->trace; s < p->trace + p->n; s++)
        for (const Mark *m = s->mark; m < s->mark + s->n && !strcmp(s->how, "dot"); m++)
            taken[dots++] = (Taken){axis_place(x, m->x) - 4, axis_place(y, m->y), axis_place(x, m->x) + 4};
    n = dots;
    for (size_t i = p->n; i-- > 0;) {
        const Trace *s = &p->trace[i];
        if (!*s->name || (!find_place(s, x, y, taken, n, &taken[n]) &&
                          !find_place(s, x, y, taken + dots, n - dots, &taken[n]))) continue;
        draw_text(f, taken[n].left, taken[n].middle + 4, "name", "%s", s->name), n++;
    }
    free(taken);
}

// Where pictures go: into a page, and if there is a dir each into a file there too.
typedef struct {
    FILE *html;
    const char *dir;
} Page;

// Write a plot as an <svg> of its own, or as a part of the page. body: what is drawn.
static void put_svg(FILE *f, const Plot *p, double height, const char *body, int alone) {
    fprintf(f, "<svg%s viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" role=\"img\">\n<title>",
            alone ? " xmlns=\"http://www.w3.org/2000/svg\"" : "", PLOT_WIDTH, height, PLOT_WIDTH, height);
    put_escaped(f, p->title, strlen(p->title)), fputs("</title>\n", f);
    if (alone) fprintf(f, "<style>\n%s</style>\n", plot_style);
    if (alone) fprintf(f, "<rect class=\"bg\" width=\"100%%\" height=\"100%%\"/>\n");
    fprintf(f, "%s</svg>\n", body);
}

// Put a plot with its caption on the page, and with --svg into a file too.
static void put_plot(const Page *page, Plot *p, Axis x, Axis y) {
    char *body, path[PATH_MAX];
    size_t size, outside = 0;
    double tick[MAX_TICKS], right = MARGIN;
    FILE *f = text_open(&body, &size);
    draw_text(f, MARGIN, 18, "t", "%s", p->title);
    double top = put_legend(f, p) + 13, height = top + p->height + 46;
    draw_text(f, MARGIN, top - 13, "faint", "%s", p->y_label);
    x.from = MARGIN, y.from = top + p->height, y.to = top;
    for (size_t i = ticks_apart(y, tick, p->height, 0); i-- > 0;)
        x.from = fmax(x.from, text_width(number_text(tick[i], 6)) + 16);
    for (const Trace *s = p->trace; s < p->trace + p->n; s++)
        if (*s->name) right = fmax(right, 0.93 * text_width(s->name) + 8);
    x.to = PLOT_WIDTH - ceil(right);
    put_axes(f, p, &x, &y);
    fprintf(f, "<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.0f\" viewBox=\"%.1f %.1f %.1f %.0f\">\n",
            x.from, top, x.to - x.from, p->height, x.from, top, x.to - x.from, p->height);
    for (const Trace *s = p->trace; s < p->trace + p->n; s++) outside += put_trace(f, s, &x, &y);
    fprintf(f, "</svg>\n");
    put_names(f, p, &x, &y);
    text_close(f);
    if (outside) fprintf(p->caption, " %zu points are outside this frame.", outside);
    text_close(p->caption);
    static const char *const column[] = {"", " class=\"c1\"", " class=\"c2\""};
    fprintf(page->html, "<figure%s>\n", column[p->column]);
    put_svg(page->html, p, height, body, 0);
    fputs("<figcaption>", page->html), put_rich(page->html, p->words, 0);
    fputs("</figcaption>\n</figure>\n", page->html);
    if (page->dir) {
        Writer w;
        if (snprintf(path, sizeof path, "%s/%s.svg", page->dir, p->file) >= PATH_MAX)
            die("%s: this path is too long; choose a shorter one", page->dir);
        writer_open(&w, path);
        put_svg(w.file, p, height, body, 1);
        writer_close(&w);
    }
    free(body);
}

// Draw all plots; axes with the same label are the same.
static void draw(const Page *page, Plots *all) {
    for (size_t i = 0; i < all->n; i++) {
        Plot *p = all->plot[i];
        Range x = empty_range, y = empty_range;
        for (size_t k = 0; k < all->n; k++) {
            const Plot *q = all->plot[k];
            Range unlike = empty_range;
            plot_ranges(q, strcmp(q->x_label, p->x_label) ? &unlike : &x,
                        strcmp(q->y_label, p->y_label) ? &unlike : &y);
        }
        put_plot(page, p, axis_over(x, p->x_log), axis_over(y, p->y_log));
    }
}
#endif
