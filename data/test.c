/*
Proves data/tokenize.c and data/village.c: against slow and obvious versions of the same thing, brute force,
and results worked out by hand. The programs themselves are run as well.

    data/test               everything (from the project's top folder)
    data/test village       the tests whose name contains this word
*/
#define HARNESS_ONLY
#define TOKENIZE_NO_MAIN
#define VILLAGE_NO_MAIN
#include "../test_optibert.c"
#include "tokenize.c"
#include "village.c"

// Run a shell command that must succeed; see shell().
static void must_run(const char *command) {
    int code = shell("%s", command);
    char *err = slurp(scratch("stderr"), NULL);
    check(code == 0, "%s: exit %d: %s", command, code, err);
    free(err);
}

// n random bytes, each one of `letters` values from `low` on.
static void random_bytes(char *s, size_t n, int low, int letters, uint64_t seed) {
    for (size_t i = 0; i < n; i++) s[i] = (char)(low + (int)(uniform(seed, 900, i) * letters));
}

// ----------------------------------------------------------------------------
// data/tokenize.c: encoding

// A vocabulary of the 256 bytes, with room for V strings.
static Vocab byte_vocab(size_t V) {
    return (Vocab){.eot = -1, .length = alloc_or_die(V), .string = alloc_or_die(V * sizeof(char *))};
}

static void add_string(Vocab *v, const char *s, size_t n) {
    v->length[v->V] = (unsigned char)n;
    v->string[v->V++] = memcpy(alloc_or_die(n), s, n);
}

// A vocabulary of these strings, after the 256 bytes if `bytes` is set; the last string is end of text.
static Encoder encoder_of(int bytes, const char *const *strings, size_t n) {
    Vocab v = byte_vocab(256 + n);
    Encoder e;
    for (int byte = 0; bytes && byte < 256; byte++) add_string(&v, &(char){(char)byte}, 1);
    for (size_t i = 0; i < n; i++) add_string(&v, strings[i], strlen(strings[i]));
    v.eot = (int)v.V - 1;
    encoder_make(&e, &v);
    return e;
}

// Pieces by hand, from the definition: an optional space and a run of letters (A–Z, a–z, bytes ≥ 0x80), or of
// digits, or of other bytes that are not white space; or a run of white space. The punctuation outside of
// ASCII counts as other bytes.
static void test_pieces(void) {
    static const char *const cases[][2] = {
        {"Hello world", "Hello| world"},        {"a  b", "a|  |b"},           {" a", " a"},
        {"x1y22", "x|1|y|22"},                  {"don't", "don|'|t"},         {" 12.50", " 12|.|50"},
        {"\n\nHi", "\n\n|Hi"},                  {"a ", "a| "},                {"a \n b", "a| \n |b"},
        {"\tif (x>=1)", "\t|if| (|x|>=|1|)"},   {"Zz@[`{", "Zz|@[`{"},        {" \r\n", " \r\n"},
        {"h\xc3\xa9llo \xe2\x82\xac" "5", "h\xc3\xa9llo| \xe2\x82\xac|5"},    {"a\tb", "a|\t|b"},
        {"a\x80" "b\xff \x80", "a\x80" "b\xff| \x80"},  {"<|endoftext|>", "<||endoftext||>"},
        {"\x01\x7f/:09", "\x01\x7f/:|09"},      {"\v\f x", "\v\f |x"},        {" ", " "},
        {".,!a .a", ".,!|a| .|a"},              {" 12 ", " 12| "},
        // “a’b” — c… «d» 「e」 and what is next to these three blocks, or is cut off
        {"\xe2\x80\x9c" "a\xe2\x80\x99" "b\xe2\x80\x9d.", "\xe2\x80\x9c|a|\xe2\x80\x99|b|\xe2\x80\x9d."},
        {"a \xe2\x80\x94 b\xe2\x80\xa6", "a| \xe2\x80\x94| b|\xe2\x80\xa6"},
        {"\xc2\xab" "d\xc2\xbb\xe3\x80\x8c" "e", "\xc2\xab|d|\xc2\xbb\xe3\x80\x8c|e"},
        {"\xe2\x81\xafx\xe2\x82\x80x\xe3\x81\x80\xc3\x80", "\xe2\x81\xaf|x\xe2\x82\x80x\xe3\x81\x80\xc3\x80"},
        {".\xe2\x80", ".|\xe2\x80"},           {".\xc2", ".|\xc2"},         {".\xc2" "a", ".|\xc2" "a"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char joined[100] = "";
        const char *s = cases[k][0];
        for (size_t i = 0, n = strlen(s), step; i < n; i += step) {
            step = piece_length(s + i, n - i);
            if (i > 0) strcat(joined, "|");
            strncat(joined, s + i, step);
        }
        check(!strcmp(joined, cases[k][1]), "pieces of \"%s\": %s, not %s", s, joined, cases[k][1]);
    }
    char run[PIECE_MAX + 10];
    for (int c = 0; c < 5; c++) { // a zero byte is a byte like any other
        memset(run, " a0.\0"[c], sizeof run);
        check(piece_length(run, sizeof run) == PIECE_MAX, "a run of byte %d is not cut at PIECE_MAX", run[0]);
        check(piece_length(run, 7) == 7, "a run of seven times byte %d is cut", run[0]);
    }
}

// Encoding by hand.
static void test_encode_by_hand(void) {
    static const char *const merges[] = { // 256 …; "ab" is there twice
        "ab", "bc", "abc", " a", "aa", "12", "a1", "\t\n", "ab", "<|endoftext|>"};
    static const struct { const char *text; size_t n; int ids[3]; } cases[] = {
        {"abc", 1, {258}},       {"abcab", 2, {258, 256}},   {"bcab", 2, {257, 256}}, {"aaa", 2, {260, 'a'}},
        {"aaaa", 2, {260, 260}}, {" abc", 2, {' ', 258}},    {" ac", 2, {259, 'c'}},  {"x a", 2, {'x', 259}},
        {"a12", 2, {'a', 261}},  {"  a", 3, {' ', ' ', 'a'}}, {"ab.", 2, {256, '.'}}, {"bcbc", 2, {257, 257}},
        {"\t\n", 1, {263}},      {"12a1", 3, {261, 'a', '1'}}, {"\303\251", 2, {0303, 0251}}, {"", 0, {0}}};
    Encoder e = encoder_of(1, merges, 10);
    uint16_t ids[300];
    check(e.has_bytes && vocab_find(&e, "ab", 2) == 256 && vocab_find(&e, "<|endoftext|>", 13) == -1,
          "vocab_find gives a wrong id");
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        size_t n = encode_text(&e, cases[k].text, strlen(cases[k].text), ids);
        int right = n == cases[k].n;
        for (size_t i = 0; right && i < n; i++) right = ids[i] == cases[k].ids[i];
        check(right, "encode_text(\"%s\") gives %zu ids, %d %d …", cases[k].text, n, ids[0], ids[1]);
    }
    char longest[256] = {0};
    memset(longest, 'x', 255);
    for (size_t n = 63; n < 68; n++)
        check(encode_piece(&e, longest, n, ids) == n, "encode_piece: %zu letters that no merge joins", n);

    // whole words, the longest first; a space that no word begins with is skipped
    e = encoder_of(0, (const char *[]){" a", " ab", "abab", ".", "b", longest, "<|endoftext|>"}, 7);
    check(!e.has_bytes && vocab_find(&e, longest, 255) == 5, "words: has_bytes %d", e.has_bytes);
    static const char text[] = "abab ab  a.b ";
    static const uint16_t want[] = {2, 1, 0, 3, 4};
    size_t n = encode_text(&e, text, strlen(text), ids);
    check(n == 5 && !memcmp(ids, want, sizeof want), "words: %zu ids, %d %d %d …", n, ids[0], ids[1], ids[2]);
    static const char *const unknown[] = {" ab abx abab", "abx abab", "abab ab  abx"};
    for (int k = 0; k < 3; k++) { // a word that is not in the vocabulary ends the program: use a child
        fflush(stdout);
        pid_t child = fork();
        int status = 0;
        if (child == 0) {
            if (!freopen(scratch("stderr"), "w", stderr)) _exit(9);
            encode_text(&e, unknown[k], strlen(unknown[k]), ids), _exit(0);
        }
        waitpid(child, &status, 0);
        check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "words: status %d of an unknown word", status);
        check_printed("stderr", "\"abx\": this word is not in the vocabulary");
    }
}

// The encoder's rule, word for word and as slow as can be: find the lowest id among the strings that
// neighbours form, looking through all strings; join those neighbours from the left; and again.
static int naive_find(const Vocab *v, const char *s, size_t n) {
    for (size_t id = 0; id < v->V; id++)
        if ((int)id != v->eot && v->length[id] == n && !memcmp(v->string[id], s, n)) return (int)id;
    return -1;
}

static size_t naive_encode(const Vocab *v, const char *s, size_t n, uint16_t *ids) {
    size_t begin[300], count = n;
    for (size_t i = 0; i <= n; i++) begin[i] = i;
    for (;;) {
        int best = -1;
        for (size_t i = 0; i + 1 < count; i++) {
            int id = naive_find(v, s + begin[i], begin[i + 2] - begin[i]);
            if (id >= 0 && (best < 0 || id < best)) best = id;
        }
        if (best < 0) break;
        for (size_t i = 0; i + 1 < count; i++)
            if (begin[i + 2] - begin[i] == v->length[best] &&
                !memcmp(s + begin[i], v->string[best], v->length[best])) {
                memmove(begin + i + 1, begin + i + 2, (count - i - 1) * sizeof *begin);
                count--;
            }
    }
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint16_t)naive_find(v, s + begin[i], begin[i + 1] - begin[i]);
    return count;
}

// A vocabulary of all bytes in an odd order, random strings of three letters (equal ones
// among them), and end of text.
static Encoder random_encoder(size_t V, uint64_t seed) {
    Vocab v = byte_vocab(V);
    Encoder e;
    for (size_t id = 0; id < V; id++) {
        char s[5];
        size_t n = id < 256 ? 1 : 2 + hash3(seed, 1, id) % 4;
        random_bytes(s, n, 'a', 3, hash3(seed, 2, id));
        if (id < 256) s[0] = (char)(id * 37 + seed);
        add_string(&v, s, n);
    }
    v.eot = (int)V - 1;
    encoder_make(&e, &v);
    return e;
}

static void test_encode(void) {
    for (uint64_t seed = 0; seed < 12; seed++) {
        Encoder e = random_encoder(300 + 20 * seed, seed);
        BpeCached *cache = alloc_or_die(sizeof *cache << BPE_CACHE_BITS);
        int wrong = 0, wrong_cached = 0;
        for (uint64_t k = 0; k < 120; k++) {
            char s[200];
            uint16_t got[200], want[200];
            size_t n = k < 100 ? 1 + hash3(seed, 3, k) % 30 : 60 + hash3(seed, 3, k) % 100;
            random_bytes(s, n, 'a', k % 10 == 0 ? 1 : 3, hash3(seed, 4, k));
            size_t count = naive_encode(&e.vocab, s, n, want);
            wrong += encode_piece(&e, s, n, got) != count || memcmp(got, want, count * sizeof *got);
            for (int again = 0; again < 2; again++) {
                memset(got, 0, sizeof got);
                size_t cached = bpe_encode_cached(&e, cache, s, n, got);
                wrong_cached += cached != count || memcmp(got, want, count * sizeof *got);
            }
        }
        check(wrong == 0, "encode_piece: %d of 120 pieces are wrong", wrong);
        check(wrong_cached == 0, "bpe_encode_cached: %d of 240 pieces are wrong", wrong_cached);
        free(cache);
    }
}

// ----------------------------------------------------------------------------
// data/tokenize.c: learning, and through a shard and back

// Learning as slow as can be: all pieces are kept as they come, and all pairs are counted anew for each
// merge. Of equally frequent ones the lower left id wins, then the lower right. The text as tokens is put in
// id, with 65535 after each piece (room for 2n); returns the number of those.
static size_t naive_learn(Vocab *v, const char *s, size_t n, size_t V, uint16_t *id) {
    size_t count = 0;
    *v = byte_vocab(V);
    for (int byte = 0; byte < 256; byte++) add_string(v, &(char){(char)byte}, 1);
    for (size_t i = 0, step; i < n; i += step) {
        step = piece_length(s + i, n - i);
        for (size_t k = 0; k < step; k++) id[count++] = (unsigned char)s[i + k];
        id[count++] = 65535;
    }
    uint32_t *pairs = alloc_or_die(V * V * sizeof *pairs);
    while (v->V < V - 1) {
        memset(pairs, 0, V * V * sizeof *pairs);
        for (size_t i = 0; i + 1 < count; i++)
            if (id[i] != 65535 && id[i + 1] != 65535) pairs[id[i] * V + id[i + 1]]++;
        char joint[600], best_joint[600];
        size_t best = 0, best_n = 0, most = 1;
        for (size_t p = 0; p < V * V; p++) {
            if (pairs[p] <= most) continue;
            size_t a = p / V, b = p % V, both = (size_t)v->length[a] + v->length[b];
            memcpy(joint, v->string[a], v->length[a]);
            memcpy(joint + v->length[a], v->string[b], v->length[b]);
            if (both > 255 || naive_find(v, joint, both) >= 0) continue;
            most = pairs[p], best = p, best_n = both;
            memcpy(best_joint, joint, both);
        }
        if (most == 1) break;
        size_t to = 0;
        for (size_t i = 0; i < count; to++) {
            int join = i + 1 < count && id[i] == best / V && id[i + 1] == best % V;
            id[to] = join ? (uint16_t)v->V : id[i];
            i += join ? 2 : 1;
        }
        count = to;
        add_string(v, best_joint, best_n);
    }
    free(pairs);
    return count;
}

// Texts to learn from, at most 200000 bytes. k < 3: words, some far more often than others; 3 to 5:
// long pieces of two to four letters, with many ties; 6 and 7: any bytes, so few pairs occur twice; 8:
// spaces and their neighbours; 9: one letter; 10: pieces of 255 and of 256 bytes; 11: more pairs than
// the hash table begins with.
static size_t text_to_learn(char *s, int k) {
    static const char *const words[] = {"the", "cat", "sat", "on", "then", "there", "a", "banana", "ananas",
                                        "1999", "aaaaaaa", "abcabc", "bcabca", "...", "h\xc3\xa9las", "x+x"};
    size_t n = 0, size = k == 11 ? 200000 : k == 10 ? 2 * 513 : k == 9 ? 6000 : 2000;
    while (k < 3 && n < size) {
        double u = uniform((uint64_t)k, 5, n);
        n += (size_t)sprintf(s + n, "%s%s", words[(int)(16 * u * u)], n % 7 ? " " : "\n");
    }
    if (k < 3) return n;
    if (k < 6) random_bytes(s, size, 'a', k - 1, (uint64_t)k);
    else if (k == 8) random_bytes(s, size, 31, 3, (uint64_t)k);
    else if (k == 9 || k == 10) memset(s, 'a', size);
    else random_bytes(s, size, 0, 256, (uint64_t)k);
    for (size_t i = 0; k == 10 && i < size; i += 513)
        s[i + 255] = s[i + 512] = '\n', memset(s + i + 256, 'b', 256);
    return size;
}

static void test_learn(void) {
    static char s[200000];
    for (int k = 0; k < 12; k++) {
        size_t n = text_to_learn(s, k), V = k < 5 ? 320 : 380, half = 0, to = 0, longest = 0;
        Vocab got, want, parsed;
        Encoder e;
        while (half < n / 2) half += piece_length(s + half, n - half); // a cut between pieces
        bpe_learn(&got, (Text[2]){{s, half}, {s + half, n - half}}, 2, V);
        uint16_t *left = alloc_or_die(2 * n * sizeof *left), *ids = alloc_or_die(n * sizeof *ids);
        size_t n_left = naive_learn(&want, s, n, V, left), last = got.V - 1;
        check(got.V == want.V + 1, "learner %d: %zu ids, not %zu", k, got.V, want.V + 1);
        add_string(&want, "<|endoftext|>", 13);
        int differ = 0;
        for (size_t id = 0; id < MIN(got.V, want.V); id++) {
            longest = MAX(longest, got.length[id]);
            differ += got.length[id] != want.length[id] ||
                      memcmp(got.string[id], want.string[id], got.length[id]);
            check(id == last || naive_find(&got, got.string[id], got.length[id]) == (int)id,
                  "learner %d: string %zu is there twice", k, id);
        }
        check(differ == 0 && got.eot == (int)last, "learner %d: %d strings differ, end of text %d", k, differ,
              got.eot);
        parsed = (Vocab){.file = got.file, .size = got.size}; // the file says the same
        vocab_parse(&parsed, "learned");
        check(parsed.V == got.V && parsed.eot == got.eot && parsed.string[last] == got.string[last],
              "learner %d: the file has %zu ids, end of text %d", k, parsed.V, parsed.eot);
        encoder_make(&e, &got); // encoding the text makes of it what the merges have made of it
        for (size_t i = 0; i < n_left; i++)
            if (left[i] != 65535) left[to++] = left[i];
        check(encode_text(&e, s, n, ids) == to && !memcmp(ids, left, to * sizeof *ids),
              "learner %d: the text it learned from is encoded differently", k);
        check((k != 9 || longest == 128) && (k != 10 || longest == 255), "learner %d: up to %zu bytes", k,
              longest);
        free(left), free(ids);
    }
}

// Any bytes, through a shard and back, with vocabularies learned from them and from other text.
static void test_round_trip(void) {
    enum { MOST = 200000 };
    char *s = alloc_or_die(MOST), *path = strdup(scratch("shard"));
    uint16_t *ids = alloc_or_die(MOST * sizeof *ids);
    Vocab learned[3];
    Encoder encoders[4];
    random_bytes(s, 50000, 'a', 20, 1);
    bpe_learn(&learned[0], &(Text){s, 50000}, 1, 700);
    random_bytes(s, MOST, 0, 256, 2);
    bpe_learn(&learned[1], &(Text){s, MOST}, 1, 1500);
    bpe_learn(&learned[2], NULL, 0, 512); // nothing to learn from: bytes and end of text
    check(learned[2].V == 257, "no text gives %zu ids, not 257", learned[2].V);
    for (int k = 0; k < 3; k++) encoder_make(&encoders[k], &learned[k]);
    encoders[3] = random_encoder(400, 5);
    for (int k = 0; k < 20; k++) {
        const Encoder *e = &encoders[k % 4];
        size_t n = k < 4 ? 1 : k < 8 ? 256 : 1 + hash3(7, 7, (uint64_t)k) % MOST, half = n / 2, back_n = 0, V;
        if (k < 8) for (size_t i = 0; i < n; i++) s[i] = (char)(k < 4 ? 10 * k : (int)i);
        else random_bytes(s, n, k % 3 ? 0 : 'a', k % 3 ? 256 : 4, (uint64_t)k);
        Text parts[2] = {{s, half}, {s + half, n - half}}, whole = {s, n};
        int two = half > 0 && k % 2, last = -1, eot = 0;
        Writer w;
        Reader r;
        writer_open(&w, path);
        size_t tokens = bpe_put_shard(&w, e, two ? parts : &whole, two ? 2 : 1);
        writer_close(&w);
        reader_open(&r, path);
        check(shard_header(&r, &V, &eot) == tokens && V == e->vocab.V && eot == e->vocab.eot,
              "shard %d: a wrong header", k);
        fclose(r.file);
        char *back = NULL;
        FILE *f = open_memstream(&back, &back_n);
        bpe_decode(&e->vocab, path, "=\n", &last, f);
        fclose(f);
        check(back_n == n + (two ? 2 : 0) && !memcmp(back, s, two ? half : n) &&
                  (!two || (!memcmp(back + half, "=\n", 2) && !memcmp(back + half + 2, s + half, n - half))),
              "round trip %d: %zu bytes, then %zu", k, n, back_n);
        free(back);
        if (two) continue;
        char *shard = slurp(path, NULL); // its tokens are end of text and those of encode_text()
        uint16_t first = (uint16_t)eot;
        size_t count = encode_text(e, s, n, ids);
        check(count + 1 == tokens && !memcmp(shard + 1024, &first, 2) &&
                  !memcmp(shard + 1026, ids, 2 * count), "shard %d: not the tokens of encode_text()", k);
        free(shard);
    }
    free(s), free(ids), free(path);
}

// ----------------------------------------------------------------------------
// data/tokenize.c: documents

// Documents as text: each is followed by |, and / comes before number `mark`.
static const char *documents_as_text(const Texts *t, size_t mark) {
    static char joined[1000];
    joined[0] = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (i == mark) strcat(joined, "/");
        strcat(strncat(joined, t->text[i].s, t->text[i].n), "|");
    }
    return joined;
}

static void test_split(void) {
    static const char *const cases[][3] = { // separator (NULL: blank lines), text, documents
        {NULL, "a\nb\n\nc\n", "a\nb\n|c\n|"},    {NULL, "a\r\n\r\nb\r\nc\r\n", "a\r\n|b\r\nc\r\n|"},
        {NULL, "\n\n\na\n\n\n\nb", "a\n|b|"},    {NULL, "a\n \t\nb\n", "a\n|b\n|"},
        {NULL, "a", "a|"},                       {NULL, "\n \r\n\n", ""},
        {NULL, "a\n\n  b\n   ", "a\n|  b\n|"},   {NULL, "a\n\n\r\n\nb\n\n", "a\n|b\n|"},
        {NULL, "", ""},                          {"<e>", "", ""},
        {"<e>", "a<e>b", "a|b|"},                {"<e>", "a\n<e>\nb\n<e>\n", "a\n|b\n|"},
        {"<e>", "<e><e>\n<e>\r\n", ""},          {"<e>", "a<e>\r\nb", "a|b|"},
        {"<e>", "a<e>\n\nb", "a|\nb|"},          {"<e>", "<ea<e", "<ea<e|"},
        {"<e>", "<e>\n a <e> b", " a | b|"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        Texts t = {0};
        const char *separator = cases[k][0], *text = cases[k][1];
        if (separator) bpe_split_separator(&t, text, strlen(text), separator);
        else bpe_split_blank_lines(&t, text, strlen(text));
        const char *got = documents_as_text(&t, t.n);
        check(!strcmp(got, cases[k][2]), "split %zu: [%s], not [%s]", k, got, cases[k][2]);
    }
}

// Where validation begins.
static void test_cut(void) {
    static const struct { const char *documents, *wanted; double fraction; } cases[] = {
        // the boundary that is nearest
        {"aaaaaaaaa|bbbbbbbbb|ccccccccc|d|", "aaaaaaaaa|bbbbbbbbb|/ccccccccc|d|", 0.3},
        {"aaaaaaaaa|b|c|", "aaaaaaaaa|b|/c|", 0.1},
        {"aaaa bbbb|c|", "aaaa bbbb|/c|", 0.08},
        // one document, or no boundary is near: a line end
        {"line 1\nline 2\nline three\nline 4\n|", "line 1\nline 2\nline three\n|/line 4\n|", 0.2},
        {"line 1\nline 2\nline three\nline 4\n|", "line 1\n|/line 2\nline three\nline 4\n|", 0.8},
        {"aaaa|one\ntwo\nthree\nfour\n|", "aaaa|one\ntwo\nthree\n|/four\n|", 0.2},
        {"aaaaaaaaaaaaaaa|bbb\nccc\n|", "aaaaaaaaaaaaaaa|bbb\n|/ccc\n|", 0.15},
        {"aaaa bbbb\ncccc dddd eeee\n|", "aaaa bbbb\n|/cccc dddd eeee\n|", 0.44},
        // no line end is near: between two pieces
        {"one two three four five six|", "one two three four five|/ six|", 0.15},
        {"x\none two three four five six|", "x\none two three four five|/ six|", 0.15},
        {"one two three four|x|", "one two three|/ four|x|", 0.4},
        {"aaaaaaaaaaaa aaaaa|bb|", "aaaaaaaaaaaa|/ aaaaa|bb|", 0.25},
        // one piece, or nothing is asked for: nowhere
        {"aaaaaaaaaaaaaaaaaaaaaaaa|", "aaaaaaaaaaaaaaaaaaaaaaaa|", 0.5},
        {"aaaaa|bbbbb|", "aaaaa|bbbbb|", 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        Texts t = {0};
        for (const char *p = cases[k].documents, *end; (end = strchr(p, '|')); p = end + 1)
            bpe_add_text(&t, p, (size_t)(end - p));
        size_t first = bpe_cut(&t, cases[k].fraction);
        const char *got = documents_as_text(&t, first);
        check(!strcmp(got, cases[k].wanted), "cut %zu: [%s], not [%s]", k, got, cases[k].wanted);
    }
    char euros[3 * PIECE_MAX], crowd[4000]; // letters of three bytes and no space: PIECE_MAX is inside one
    for (size_t i = 0; i < sizeof euros; i++) euros[i] = "\xe2\x82\xac"[i % 3];
    Texts one = {0}, many = {0};
    bpe_add_text(&one, euros, sizeof euros);
    size_t first = bpe_cut(&one, 0.4), bytes = 0, val = 0;
    check(first == one.n || (one.text[first].s - euros) % 3 == 0, "the cut is inside a UTF-8 sequence");
    random_bytes(crowd, sizeof crowd, 'a', 2, 3); // many small documents: close to what was asked for
    bpe_split_separator(&many, crowd, sizeof crowd, "bb");
    first = bpe_cut(&many, 0.25);
    for (size_t i = 0; i < many.n; i++) bytes += many.text[i].n, val += i >= first ? many.text[i].n : 0;
    check(fabs((double)val / (double)bytes - 0.25) < 0.01, "a quarter is %zu of %zu bytes", val, bytes);
}

// ----------------------------------------------------------------------------
// data/tokenize, the program

#define TOKENIZE "data/tokenize "
#define VILLAGE "data/village "

static void test_tokenize(void) {
    char text[20000];
    size_t n = 0, train_n, val_n;
    for (int i = 0; n < sizeof text - 100; i++)
        n += (size_t)sprintf(text + n, "the %c%c cat%s sat on mat number %d\n%s", 'a' + i % 26, 'a' + i % 7,
                             i % 3 ? "s" : "", i, i % 10 == 9 ? "<|endoftext|>\n" : "");
    write_bytes(scratch("text"), text, n);
    must_run(TOKENIZE "--out @/a --vocab-size 512 --val-fraction 0.1 @/text");
    must_run(TOKENIZE "--out @/b --vocab @/a.vocab --val-fraction 1e-1 @/text");
    check(same_file(scratch("a_train.bin"), scratch("b_train.bin")) &&
              same_file(scratch("a_val.bin"), scratch("b_val.bin")) &&
              same_file(scratch("a.vocab"), scratch("b.vocab")), "--vocab does not give the same files");
    must_run(TOKENIZE "--decode --vocab @/a.vocab @/a_train.bin");
    char *train = slurp(scratch("stdout"), &train_n);
    must_run(TOKENIZE "--decode --vocab @/a.vocab @/a_val.bin");
    char *val = slurp(scratch("stdout"), &val_n);
    check(train_n > 0 && val_n > 0 && train_n + val_n == n && !memcmp(train, text, train_n) &&
              !memcmp(val, text + train_n, val_n),
          "train (%zu bytes) and val (%zu) are not the text", train_n, val_n);
    check(train_n > 0 && train[train_n - 1] == '\n' && fabs((double)val_n - (double)n / 10) < 100,
          "val is not a tenth of the text that begins with a line");
    free(train), free(val);

    must_run(TOKENIZE "--out @/c --vocab-size 512 --val-fraction 0 --separator '<|endoftext|>' @/text");
    must_run(TOKENIZE "--decode --vocab @/c.vocab @/c_train.bin");
    char *whole = slurp(scratch("stdout"), &train_n), *last = strstr(text + n - 500, "<|endoftext|>\n");
    check(train_n > 0 && train_n <= n && !memcmp(whole, text, train_n) &&
              (train_n == n || text + train_n == last), "the separators do not come back");
    free(whole);
    write_bytes(scratch("text"), "one\n\ntwo\r\n\r\nthree", 17);
    write_bytes(scratch("wanted"), "one\n\ntwo\r\n\nthree\n\none\n\ntwo\r\n\nthree", 34);
    must_run(TOKENIZE "--out @/d --vocab @/a.vocab --val-fraction 0 --split-blank-lines @/text @/text");
    must_run(TOKENIZE "--decode --split-blank-lines --vocab @/d.vocab @/d_train.bin");
    check(same_file(scratch("stdout"), scratch("wanted")), "the documents do not come back");
    must_run(TOKENIZE "--help");
    write_bytes(scratch("tiny"), "ab", 2); // fewer ids than asked for and no validation text: two notes
    must_run(TOKENIZE "--out @/tiny @/tiny");
    check_printed("stderr", "only 257 ids");
    check_printed("stderr", "tiny_val.bin: no tokens");
}

// Everything that can be asked wrongly.
static const Refusal tokenize_refusals[] = {
    {1, "missing: cannot read", TOKENIZE "--out @/r/o @/r/missing"},
    {1, "missing: cannot read", TOKENIZE "--out @/r/o --files-from @/r/missing"},
    {1, "there is no text in the input", TOKENIZE "--out @/r/o @/r/empty"},
    {1, "there is no text in the input", TOKENIZE "--out @/r/o @/r/empty @/r/empty"},
    {1, "there is no text in the input", TOKENIZE "--out @/r/o - </dev/null"},
    {1, "nothing but separators", TOKENIZE "--out @/r/o --separator 'some text' @/r/text"},
    {1, "nowhere/o: cannot write", TOKENIZE "--out @/nowhere/o @/r/text"},
    {1, "with iconv -f UTF-16 ", "printf '\\377\\376a\\0b\\0' | " TOKENIZE "--out @/r/o -"},
    {1, "with iconv -f UTF-16LE ", "printf 'a\\0b\\0' | " TOKENIZE "--out @/r/o -"},
    {1, "with iconv -f UTF-16BE ", "printf '\\0a\\0b' | " TOKENIZE "--out @/r/o -"},
    {1, "with gunzip", "gzip <@/r/text | " TOKENIZE "--out @/r/o -"},
    {1, "text: ", TOKENIZE "--out @/r/o --vocab @/r/text @/r/text"},
    {1, "missing: ", TOKENIZE "--out @/r/o --vocab @/r/missing @/r/text"},
    {1, "words.vocab: not all bytes", TOKENIZE "--out @/r/o --vocab @/r/words.vocab @/r/text"},
    {1, "endless.vocab: has no end-of-text", TOKENIZE "--out @/r/o --vocab @/r/endless.vocab @/r/text"},
    {1, "text: ", TOKENIZE "--decode --vocab @/r/words.vocab @/r/text"},
    {1, "missing: ", TOKENIZE "--decode --vocab @/r/words.vocab @/r/missing"},
    {1, "other.bin: made with another vocabulary", TOKENIZE "--decode --vocab @/r/words.vocab @/r/other.bin"},
    {1, "high.bin: token 7", TOKENIZE "--decode --vocab @/r/words.vocab @/r/high.bin"},
    {2, "tokenize: --out PREFIX: is missing", TOKENIZE "@/r/text"},
    {2, "tokenize: no input", TOKENIZE "--out @/r/o"},
    {2, "tokenize: no input", TOKENIZE},
    {2, "tokenize: --out: needs", TOKENIZE "--out"},
    {2, "tokenize: --out: needs", TOKENIZE "--out '' @/r/text"},
    {2, "tokenize: --nonsense: unknown", TOKENIZE "--nonsense @/r/text"},
    {2, "tokenize: --vocab-size 511", TOKENIZE "--out @/r/o --vocab-size 511 @/r/text"},
    {2, "tokenize: --vocab-size 65536", TOKENIZE "--out @/r/o --vocab-size 65536 @/r/text"},
    {2, "tokenize: --vocab-size 4k", TOKENIZE "--out @/r/o --vocab-size 4k @/r/text"},
    {2, "tokenize: --vocab-size nan", TOKENIZE "--out @/r/o --vocab-size nan @/r/text"},
    {2, "tokenize: --vocab-size: ", TOKENIZE "--out @/r/o --vocab-size 512 --vocab @/r/words.vocab @/r/text"},
    {2, "tokenize: --val-fraction 1: ", TOKENIZE "--out @/r/o --val-fraction 1 @/r/text"},
    {2, "tokenize: --val-fraction -0.1: ", TOKENIZE "--out @/r/o --val-fraction -0.1 @/r/text"},
    {2, "tokenize: --separator: ", TOKENIZE "--out @/r/o --separator x --split-blank-lines @/r/text"},
    {2, "tokenize: --decode: needs", TOKENIZE "--decode @/r/text"},
    {2, "tokenize: --out: ", TOKENIZE "--decode --out @/r/o --vocab @/r/words.vocab @/r/text"},
    {2, "tokenize: --val-fraction: ", TOKENIZE "--decode --val-fraction 0 --vocab @/r/words.vocab @/r/text"},
    {1, "stdout: cannot write", TOKENIZE "--decode --vocab @/r/words.vocab @/r/good.bin >/dev/full"},
};

static void test_tokenize_refusals(void) {
    char vocab[HEADER * 4 + 512];
    int32_t shard[HEADER + 1] = {SHARD_MAGIC, 1, 2, 2, 2};
    must_run("mkdir -p @/r/x_val.bin && : >@/r/empty && echo some text >@/r/text");
    memcpy(vocab, (int32_t[HEADER]){VOCAB_MAGIC, 2, 2, 1}, HEADER * 4);
    memcpy(vocab + HEADER * 4, "\1a\1e", 4);
    write_bytes(scratch("r/words.vocab"), vocab, HEADER * 4 + 4);
    memcpy(vocab, (int32_t[HEADER]){VOCAB_MAGIC, 2, 256, -1}, HEADER * 4);
    for (int byte = 0; byte < 256; byte++)
        vocab[HEADER * 4 + 2 * byte] = 1, vocab[HEADER * 4 + 2 * byte + 1] = (char)byte;
    write_bytes(scratch("r/endless.vocab"), vocab, sizeof vocab);
    write_bytes(scratch("r/good.bin"), shard, sizeof shard);
    shard[HEADER] = 7 << 16 | 1; // tokens 1 and 7
    write_bytes(scratch("r/high.bin"), shard, sizeof shard);
    shard[3] = 3;
    write_bytes(scratch("r/other.bin"), shard, sizeof shard);
    size_t n = sizeof tokenize_refusals / sizeof *tokenize_refusals;
    check_refusals(tokenize_refusals, access("/dev/full", W_OK) == 0 ? n : n - 1); // macOS has no /dev/full
    check(shell(TOKENIZE "--out @/r/x @/r/text") == 1, "tokenize: writes where a folder is");
    check_printed("stderr", "x_val.bin: cannot write");
    must_run("rm @/r/x_train.bin; [ $(ls -A @/r | wc -l) = 8 ]"); // what was made above, and no file more
}

// Text can come from files, folders, lists, pipes, and very many files: it is the same text.
static void test_tokenize_inputs(void) {
    static const char *const ways[] = {
        "@/in/a @/in/b/c", "@/in", "--files-from @/list", "- <@/all", "/dev/stdin <@/all", "@/pipe"};
    must_run("mkdir -p @/in/b && seq 1 300 >@/in/a && seq 301 999 >@/in/b/c && cat @/in/a @/in/b/c >@/all && "
             "printf '%s\n\n%s\r\n' @/in/a @/in/b/c >@/list && mkfifo @/pipe");
    must_run(TOKENIZE "--out @/want --separator '11\n' --val-fraction 0.2 @/all");
    for (int i = 0; i < 6; i++) {
        int code = shell("cat @/all >@/pipe & p=$!; %s --out @/got --separator '11\n' --val-fraction 0.2 %s; "
                         "s=$?; kill $p; exit $s", TOKENIZE, ways[i]);
        check(code == 0, "tokenize %s: exit %d", ways[i], code);
        // a file ends a document, but the text of two files has no separator between them
        int one = i > 2, same = shell("for f in _train.bin _val.bin .vocab; do cmp @/got$f @/want$f || exit 1; "
                                      "done") == 0;
        if (one) check(same, "tokenize %s: other shards than from a file", ways[i]);
        must_run(TOKENIZE "--decode --separator 11 --vocab @/got.vocab @/got_train.bin @/got_val.bin >@/text");
        check(one || i == 0 || same_file(scratch("text"), scratch("first")), "tokenize %s: another text",
              ways[i]);
        if (i == 0) must_run("mv @/text @/first");
        must_run("rm @/got*");
    }
    must_run("mkdir @/many && cd @/many && seq 1 70000 | split -l 1 -a 4");
    must_run(TOKENIZE "--out @/got --vocab @/want.vocab --val-fraction 0 @/many");
    must_run(TOKENIZE "--decode --vocab @/got.vocab @/got_train.bin | grep -v endoftext >@/text");
    must_run("seq 1 70000 | cmp - @/text");
}

// Hints about text that is probably not cut as its user thinks.
static void test_tokenize_hints(void) {
    must_run("printf 'one\n<|endoftext|>\ntwo\n<|endoftext|>\nthree\n' >@/h");
    must_run(TOKENIZE "--out @/h1 --val-fraction 0 @/h");
    check_printed("stderr", "give --separator '<|endoftext|>'");
    must_run(TOKENIZE "--out @/h2 --val-fraction 0 --separator '<|endoftext|>' @/h");
    char *notes = slurp(scratch("stderr"), NULL);
    check(!strstr(notes, "separator"), "tokenize: a wrong hint: %s", notes);
    free(notes);
    must_run(TOKENIZE "--out @/h3 --val-fraction 0 --separator '<eos>' @/h");
    check_printed("stderr", "--separator <eos>: is not in the text");
}

// --shuffle: the same documents in another order, which the seed decides.
static void test_tokenize_shuffle(void) {
    must_run("seq 100 200 | sed 's/$/\\n/' >@/s");
    for (int seed = 0; seed < 4; seed++) {
        char command[256];
        sprintf(command, TOKENIZE "--split-blank-lines --val-fraction 0.5 --out @/o%d %s @/s", seed,
                (const char *[]){"", "--shuffle 1", "--shuffle 1", "--shuffle 2"}[seed]);
        must_run(command);
        sprintf(command, TOKENIZE "--decode --split-blank-lines --vocab @/o%d.vocab @/o%d_train.bin "
                "@/o%d_val.bin && grep . @/stdout >@/docs%d", seed, seed, seed, seed);
        must_run(command);
    }
    must_run("seq 100 200 | cmp - @/docs0 && cmp @/docs1 @/docs2 && sort @/docs1 | cmp - @/docs0");
    must_run("sort @/docs3 | cmp - @/docs0 && ! cmp @/docs1 @/docs0 && ! cmp @/docs1 @/docs3");
    must_run("[ $(head -50 @/docs1 | awk '$1 < 150' | wc -l) -lt 40 ]"); // validation is a mixture, too
}

// A vocabulary is known by its whole content. It is not replaced by another one unasked, and text encoded
// with another one of the same size is not decoded.
static void test_tokenize_identity(void) {
    must_run("seq 1 40000 >@/a; seq 2000 49000 | tr 0-9 a-j >@/b; mkdir @/i @/j");
    must_run(TOKENIZE "--out @/i/x --vocab-size 512 @/a");
    must_run("cp -r @/i @/copy");
    check(shell(TOKENIZE "--out @/i/x --vocab-size 512 @/b") == 1, "tokenize replaces a vocabulary");
    check_printed("stderr", "x.vocab: is another vocabulary");
    must_run("diff -r @/i @/copy");
    must_run(TOKENIZE "--out @/j/x --vocab-size 512 @/b");
    must_run("cmp -n 1024 @/i/x.vocab @/j/x.vocab"); // the same header
    check(shell(TOKENIZE "--decode --vocab @/i/x.vocab @/j/x_val.bin") == 1, "a shard of another vocabulary");
    check_printed("stderr", "x_val.bin: made with another vocabulary");
    must_run(TOKENIZE "--out @/i/x --vocab @/i/x.vocab @/b");
    must_run("cmp @/i/x.vocab @/copy/x.vocab && ! cmp @/i/x_val.bin @/copy/x_val.bin");
    must_run(TOKENIZE "--out @/i/x --vocab-size 512 --overwrite @/b");
    must_run("diff -r @/i @/j");
}

#define BEGUN "until [ -s @/k/o.tmp ] || ! kill -0 $p; do sleep 0.01; done; "

// Killed in the middle of its work, it leaves nothing behind. Meanwhile no other program may write there.
static void test_tokenize_killed(void) {
    size_t n = 8000000;
    char *s = alloc_or_die(n);
    random_bytes(s, n, 1, 255, 1); // takes seconds
    write_bytes(scratch("noise"), s, n);
    free(s);
    int code = shell("mkdir @/k; " TOKENIZE "--out @/k/o --vocab-size 65535 @/noise & p=$!; " BEGUN
                     TOKENIZE "--out @/k/o @/noise >@/second 2>&1; echo $? >>@/second; "
                     VILLAGE "--out @/k/o >@/third 2>&1; echo $? >>@/third; kill -TERM $p; wait $p");
    check(code == 128 + SIGTERM, "tokenize: exit %d after SIGTERM", code);
    must_run("[ $(ls -A @/k | wc -l) = 0 ] && for f in second third; do grep -q 'another program is writing' "
             "@/$f && [ $(tail -n 1 @/$f) = 1 ] || exit 1; done");
    must_run("yes some text | head -c 300000000 >@/shrinks"); // while it is read, or after that
    code = shell(TOKENIZE "--out @/k/o --val-fraction 0 @/shrinks & p=$!; " BEGUN ": >@/shrinks; wait $p");
    check(code == 0 || code == 1, "tokenize: exit %d when its input shrinks", code);
    must_run("[ ! -e @/k/o.tmp ] && rm -f @/k/* @/shrinks");
}

// ----------------------------------------------------------------------------
// data/village.c: the floor and the text

// A language small enough that every text of a row's length can be listed. Its sentences are hard to tell
// apart when a token or two is hidden, and one of them has no full stop.
static const VillageClass tiny_classes[] = {
    {"name", VILLAGE_FIRST, "Al Bo", NULL},   {"family", VILLAGE_LAST, "Xi Yo", NULL},
    {"He", VILLAGE_SEX, "He She", NULL},      {"town", VILLAGE_FACT, "Ulm Rom", NULL},
    {"day", VILLAGE_FREE, "today never", NULL}, {0}};
static const VillageTemplate tiny_templates[] = {
    {2.0, "{name} in {town} ."}, {1.0, "{name} {family} {day} ."}, {1.5, "{He} ."},
    {0.7, "in {day}"},           {0.4, "{day} {name} ."},          {0, NULL}};
static const VillageLanguage tiny_language = {tiny_classes, tiny_templates, 0.6};

// Brute force, from the definition of the process alone: walk through every text that it can produce at the
// row's positions, for every person and from every place in a document.
typedef struct {
    const VillageWorld *w;
    const uint16_t *x;
    const char *hidden;
    int n;
    uint16_t text[32];       // the text of this walk so far
    double total, agree[32]; // P(the visible tokens); P(them, and x[t] at t)
} BruteForce;

// Go on at position t with token `next` of template k (k < 0: with an end of text).
static void brute_walk(BruteForce *f, int t, int person, int k, int next, double prob) {
    const VillageWorld *w = f->w;
    if (t == f->n) {
        f->total += prob;
        for (int i = 0; i < f->n; i++)
            if (f->text[i] == f->x[i]) f->agree[i] += prob;
        return;
    }
    for (int token = 0; token < (int)w->vocab.V; token++) {
        double p = 0; // of this token, in this state of the process
        int eot = token == w->vocab.eot;
        if (f->hidden[t] ? eot : token != f->x[t]) continue;
        if (k < 0) p = eot;
        else if (!eot && w->class_of[token] == w->slot[k][next]) {
            int fact = w->fact[w->class_of[token]];
            p = fact < 0 ? w->prob[token] : w->facts[person * w->n_facts + fact] == token;
        }
        if (p == 0) continue;
        f->text[t] = (uint16_t)token;
        if (k >= 0 && next + 1 < w->length[k]) {
            brute_walk(f, t + 1, person, k, next + 1, prob * p);
            continue;
        }
        for (int to = 0; to < w->n_templates; to++) { // a sentence follows, about the same or a new person
            double said = prob * p * w->template_prob[to];
            if (k >= 0) brute_walk(f, t + 1, person, to, 0, said * w->more);
            else for (int who = 0; who < (int)w->people; who++)
                brute_walk(f, t + 1, who, to, 0, said * w->person_prob[who]);
        }
        if (k >= 0) brute_walk(f, t + 1, person, -1, 0, prob * p * (1 - w->more)); // the document ends
    }
}

// The share of time that the process spends at each place of each template, share[k][place], or at an end of
// text (the result), found by letting it run.
static double brute_stationary(const VillageWorld *w, double share[8][VILLAGE_SLOTS]) {
    double eot = 1, next[8][VILLAGE_SLOTS], next_eot;
    memset(share, 0, sizeof(double[8][VILLAGE_SLOTS]));
    for (int step = 0; step < 3000; step++, eot = next_eot, memcpy(share, next, sizeof next)) {
        memset(next, 0, sizeof next), next_eot = 0;
        for (int k = 0; k < w->n_templates; k++) {
            next[k][0] += eot * w->template_prob[k];
            for (int i = 0; i + 1 < w->length[k]; i++) next[k][i + 1] += share[k][i];
            double done = share[k][w->length[k] - 1];
            for (int to = 0; to < w->n_templates; to++) next[to][0] += done * w->more * w->template_prob[to];
            next_eot += done * (1 - w->more);
        }
    }
    return eot;
}

static BruteForce brute_force(const VillageWorld *w, const uint16_t *x, const char *hidden, int n) {
    BruteForce f = {.w = w, .x = x, .hidden = hidden, .n = n};
    double share[8][VILLAGE_SLOTS], eot = brute_stationary(w, share);
    brute_walk(&f, 0, -1, -1, 0, eot);
    for (int who = 0; who < (int)w->people; who++)
        for (int k = 0; k < w->n_templates; k++)
            for (int i = 0; i < w->length[k]; i++)
                brute_walk(&f, 0, who, k, i, share[k][i] * w->person_prob[who]);
    return f;
}

// village_row gives what brute force gives, for rows cut anywhere out of a text, with
// few and many tokens hidden.
static void test_village_row(void) {
    VillageWorld *w = village_world(&tiny_language, 3, 3, 1);
    VillageText text;
    int seen[5] = {0}; // rows that begin and end with an end of text, have none, several, begin in a sentence
    check(w->vocab.V == 13 && w->longest == 4, "tiny village: V = %zu, longest %d", w->vocab.V, w->longest);
    village_begin(&text, w, 1);
    for (int row = 0; row < 300; row++) {
        uint16_t x[9];
        char hidden[9], none[9] = {0};
        double want = 0, nats = 0, rate = (double[]){0.2, 0.5, 0.9}[row % 3];
        int n = 1 + row % 9, eots = 0, inside = text.next > 0;
        for (int t = 0; t < n; t++) {
            x[t] = village_next(&text);
            hidden[t] = x[t] != w->vocab.eot && uniform(5, 0, (uint64_t)(row * 9 + t)) < rate;
            eots += x[t] == w->vocab.eot;
        }
        seen[0] += x[0] == w->vocab.eot, seen[1] += x[n - 1] == w->vocab.eot;
        seen[2] += eots == 0, seen[3] += eots > 1, seen[4] += inside;
        BruteForce f = brute_force(w, x, hidden, n), whole = brute_force(w, x, none, n);
        BruteForce first = brute_force(w, x, none, 1);
        for (int t = 0; t < n; t++) want -= hidden[t] ? log(f.agree[t] / f.total) : 0;
        double log_prob = village_row(w, x, hidden, n, &nats);
        check(fabs(nats - want) < 1e-9, "village row %d: mlm %.12g, brute force %.12g", row, nats, want);
        check(fabs(log_prob - log(f.total)) < 1e-9, "village row %d: log P %.12g, brute force %.12g", row,
              log_prob, log(f.total));
        nats = village_row(w, x, none, 1, NULL) - village_row(w, x, none, n, NULL);
        want = log(first.total / whole.total);
        check(fabs(nats - want) < 1e-9, "village row %d: ntp %.12g, brute force %.12g", row, nats, want);
    }
    for (int i = 0; i < 5; i++) check(seen[i] >= 20, "village: only %d rows of kind %d", seen[i], i);
    village_world_free(w);
}

// Is `count` of n draws what probability p gives? Within 5 standard deviations, and a little for small numbers.
static int likely_count(double count, double n, double p) {
    return fabs(count - n * p) < 5 * sqrt(n * p) + 3;
}

// Any two neighbours are met as often as village_row says: at the beginning of texts, which begin in the
// stationary state, and far inside one long text.
static void test_village_stationary(void) {
    enum { N = 100000, V = 13 };
    VillageWorld *w = village_world(&tiny_language, 3, 3, 1);
    VillageText text, other;
    static double begin[V * V], inside[V * V];
    village_begin(&text, w, 1);
    for (int i = 0; i < N; i++) {
        village_begin(&other, w, 1000 + (uint64_t)i);
        int a = village_next(&other), b = village_next(&other);
        begin[a * V + b]++;
        for (int skip = 0; skip < 40; skip++) village_next(&text);
        a = village_next(&text), b = village_next(&text);
        inside[a * V + b]++;
    }
    for (int i = 0; i < V * V; i++) {
        uint16_t x[2] = {(uint16_t)(i / V), (uint16_t)(i % V)};
        double p = exp(village_row(w, x, "\0\0", 2, NULL));
        check(likely_count(begin[i], N, p), "village: %g texts begin with %d %d", begin[i], x[0], x[1]);
        check(likely_count(inside[i], N, p), "village: %d %d is met %g times", x[0], x[1], inside[i]);
    }
    village_world_free(w);
}

// In the real language, the probabilities of all tokens for a hidden place sum to 1. (With two hidden places,
// the sum over the tokens of each is the probability of the other one's token: the product is that of both.)
static void test_village_sums(void) {
    VillageWorld *w = village_world(&village_language, 1, 32768, 1);
    VillageText text;
    village_begin(&text, w, 7);
    for (int row = 0; row < 4; row++) {
        uint16_t x[48];
        char hidden[48] = {0};
        int place[2], n = 0;
        for (int t = 0; t < 48; t++) x[t] = village_next(&text);
        for (uint64_t i = 0; n < 2; i++) {
            int t = (int)(48 * uniform(9, (uint64_t)row, i));
            if (x[t] != w->vocab.eot && !hidden[t]) hidden[t] = 1, place[n++] = t;
        }
        double both = 0, sum[2] = {0};
        village_row(w, x, hidden, 48, &both);
        for (int i = 0; i < 2; i++) {
            uint16_t keep = x[place[i]];
            for (size_t v = 0; v < w->vocab.V; v++) {
                double nats = 0;
                if ((int)v == w->vocab.eot) continue;
                x[place[i]] = (uint16_t)v;
                village_row(w, x, hidden, 48, &nats);
                sum[i] += exp(-nats);
            }
            x[place[i]] = keep;
        }
        check(fabs(log(sum[0] * sum[1]) + both) < 1e-9, "village: sum of probabilities at %d and %d %g",
              place[0], place[1], sum[0] * sum[1] / exp(-both));
    }
    village_world_free(w);
}

// The people: all names differ, the sex goes with the first name, facts are spread evenly, and person n is
// met in proportion to 1/n.
static void test_village_people(void) {
    VillageWorld *w = village_world(&village_language, 1, 32768, 1);
    char *taken = alloc_or_die(65536);
    double *count = alloc_or_die(w->vocab.V * sizeof *count), zipf = 0;
    for (size_t p = 0; p < w->people; p++) {
        const uint16_t *facts = w->facts + p * (size_t)w->n_facts;
        int first = facts[0] - w->first[0], last = facts[1] - w->first[1], he = facts[2] - w->first[2];
        check(!taken[first * 256 + last]++, "village: person %zu has someone else's name", p);
        check(he == first % 2 && facts[3] - w->first[3] == he, "village: person %zu has the wrong sex", p);
        for (int f = 0; f < w->n_facts; f++) count[facts[f]]++;
        zipf += 1 / (double)(p + 1);
    }
    int six = naive_find(&w->vocab, " six", 4); // the fifth of eight numbers; 1 + … + 1/8 = 761/280
    check(six > 0 && fabs(w->prob[six] - 56.0 / 761) < 1e-12, "village: \"six\" has %g", w->prob[six]);
    check(fabs(w->person_prob[9] * zipf * 10 - 1) < 1e-12, "village: person 10 has %g", w->person_prob[9]);
    for (int c = 0; c < w->n_classes; c++)
        for (int i = 0; i < w->size[c] && w->fact[c] >= 0; i++)
            check(likely_count(count[w->first[c] + i], (double)w->people, 1.0 / w->size[c]),
                  "village: fact %d of class %d has %g people", i, c, count[w->first[c] + i]);
    free(taken), free(count), village_world_free(w);
}

// ----------------------------------------------------------------------------
// data/village, the program

// The texts: the same options give the same bytes for any number of threads; the files are what their formats
// say; the vocabulary encodes the text that it decodes to.
static void test_village_files(void) {
    for (int i = 2; i > 0; i--) {
        char command[256];
        sprintf(command, "mkdir @/v%d; OMP_NUM_THREADS=%d " VILLAGE "--out @/v%d/v --tokens 2e5 "
                "--val-tokens 3e4 --people 500 --zipf 0.9 --seed 4", i, 2 * i - 1, i);
        must_run(command);
    }
    char *out = slurp(scratch("stdout"), NULL), *says = strstr(out, "unigram entropy ");
    must_run("diff -r @/v1 @/v2 && [ $(ls -A @/v1 | wc -l) = 4 ]");
    enum { T = 5000, ALL = 200000 };
    Vocab v;
    Encoder e;
    Shards train, val;
    const char *train_path = strdup(scratch("v1/v_train.bin")), *val_path = strdup(scratch("v1/v_val.bin"));
    vocab_load(&v, scratch("v1/v.vocab"));
    encoder_make(&e, &v);
    shards_open(&train, &train_path, 1), shards_open(&val, &val_path, 1);
    check(train.total == ALL && val.total == 30000, "village: %zu and %zu tokens", train.total, val.total);
    check(v.V == train.V && v.eot == train.eot && v.eot == (int)v.V - 1 && !e.has_bytes,
          "village: vocabulary of %zu, end of text %d; shard: %zu, %d", v.V, v.eot, train.V, train.eot);
    static uint16_t x[ALL], y[T], ids[T];
    static char text[T * 24];
    static double count[65536];
    shards_read(&train, 0, ALL, 0, x), shards_read(&val, 0, T, 0, y);

    double entropy = 0, printed = 0, words = 0; // the unigram entropy
    for (int t = 0; t < ALL; t++) count[x[t]]++, words += x[t] != v.eot;
    for (int i = 0; i < v.eot; i++) entropy -= count[i] > 0 ? count[i] / words * log(count[i] / words) : 0;
    if (says) sscanf(says, "unigram entropy %lf", &printed);
    check(fabs(printed - entropy) < 1e-4, "village: unigram entropy %g, printed: %s", entropy, out);
    free(out);

    size_t length = 0, n = 0, same = 0;
    for (int t = 0; t < T; t++) same += x[t] == y[t];
    check(same < T / 4, "village: %zu of %d tokens are the same in both texts", same, T);
    for (int t = 0; t < T; t++) {
        if (x[t] == v.eot) continue;
        memcpy(text + length, v.string[x[t]], v.length[x[t]]);
        length += v.length[x[t]], x[n++] = x[t];
    }
    size_t found = encode_text(&e, text, length, ids);
    check(found == n && !memcmp(x, ids, n * sizeof *x), "village: %zu words, then %zu", n, found);
    static const char sentence[] = " Maria Ashwood lives in Oxbridge.";
    check(encode_text(&e, sentence, strlen(sentence), ids) == 6, "village: \"%s\" is not 6 tokens", sentence);
}

// The floor of 20 rows of 40 tokens, by the trainer's own rows and masks. With 20 rows that predict equally
// many tokens (ntp), *se is the plain standard error of a mean.
static double trainers_floor(const VillageWorld *w, const Shards *val, int ntp, size_t *count, double *se) {
    Config c = {.T = 40, .V = w->vocab.V, .causal = ntp};
    double sum = 0, squares = 0, nats[20] = {0};
    Loader l;
    loader_alloc(&l, 1, 1, 40);
    *count = 0;
    for (size_t r = 0; r < 20; r++) {
        char hidden[41] = {0};
        load_validation(&l, val, &c, r, 1, 20, 0.25);
        const Batch *in = l.micro;
        for (size_t i = 0; i < in->M && !ntp; i++) hidden[in->rows[i]] = 1;
        if (!ntp) village_row(w, l.tokens, hidden, 40, &nats[r]);
        else nats[r] = village_row(w, l.tokens, hidden, 1, NULL) - village_row(w, l.tokens, hidden, 41, NULL);
        sum += nats[r], *count += in->M;
    }
    for (int r = 0; r < 20; r++) squares += (nats[r] - sum / 20) * (nats[r] - sum / 20);
    *se = sqrt(squares / 19 / 20) / 40;
    loader_free(&l);
    return sum;
}

// The floor file: --floor twice with the same settings leaves one line, with the right numbers.
static void test_village_floor(void) {
    static const char head[] = "# village people 500 zipf 0.9 seed 4\n"
                               "# objective T mask_rate rows seed sum count se\n";
    must_run(VILLAGE "--out @/f --tokens 1000 --val-tokens 3e4 --people 500 --zipf 0.9 --seed 4");
    for (int i = 0; i < 4; i++)
        must_run(i % 2 ? VILLAGE "--floor --out @/f --objective ntp --seq-len 40 --val-rows 20"
                       : VILLAGE "--floor --out @/f --mask-rate 0.25 --seq-len 40 --val-rows 20");
    char *floors = slurp(scratch("f_val.floor"), NULL);
    check(!strncmp(floors, head, strlen(head)), "village: the floor file begins with \"%.40s…\"", floors);
    check(strstr(floors, "\nmlm 128 0.2 234 1 ") && strstr(floors, "\nntp 128 1 234 1 "),
          "village: the default floors are missing: %s", floors);
    VillageWorld *w = village_world(&village_language, 4, 500, 0.9);
    const char *path = strdup(scratch("f_val.bin"));
    Shards val;
    shards_open(&val, &path, 1);
    for (int ntp = 0; ntp < 2; ntp++) {
        const char *key = ntp ? "\nntp 40 1 20 1 " : "\nmlm 40 0.25 20 1 ", *line = strstr(floors, key);
        double sum = 0, se = 0, want_se, want;
        size_t count = 0, want_count;
        check(line && !strstr(line + 1, key), "village: --floor added no line or two: %s", floors);
        if (line) sscanf(line + strlen(key), "%lf %zu %lf", &sum, &count, &se);
        want = trainers_floor(w, &val, ntp, &want_count, &want_se);
        check(count == want_count && fabs(sum - want) < 1e-9, "village: floor %g of %zu, not %g of %zu", sum,
              count, want, want_count);
        check(!ntp || fabs(se - want_se) < 1e-12, "village: standard error %g, not %g", se, want_se);
    }
    free(floors), village_world_free(w);
}

static const Refusal village_refusals[] = {
    {2, "village: --out PREFIX: is missing", VILLAGE},
    {2, "village: --out: needs", VILLAGE "--out"},
    {2, "village: --colour: unknown", VILLAGE "--colour red --out @/x"},
    {2, "village: extra: unknown", VILLAGE "--out @/x extra"},
    {2, "2147483647", VILLAGE "--out @/nowhere/x --tokens 3e9"},
    {2, "whole number", VILLAGE "--out @/nowhere/x --tokens 1.5"},
    {2, "--tokens 5x", VILLAGE "--out @/nowhere/x --tokens 5x"},
    {2, "--zipf nan", VILLAGE "--out @/nowhere/x --zipf nan"},
    {2, "--zipf -1", VILLAGE "--out @/nowhere/x --zipf -1"},
    {2, "--people 0", VILLAGE "--out @/nowhere/x --people 0"},
    {2, "65536", VILLAGE "--out @/nowhere/x --people 65537"},
    {2, "--seq-len: is for --floor", VILLAGE "--out @/nowhere/x --seq-len 64"},
    {2, "--people: the village is already made", VILLAGE "--floor --out @/nowhere/x --people 10"},
    {2, "mlm or ntp", VILLAGE "--floor --out @/nowhere/x --objective clm"},
    {1, "nowhere/x: cannot write", VILLAGE "--out @/nowhere/x"},
    {1, "z_val.floor: cannot read", VILLAGE "--floor --out @/z"},
    {1, "mine.vocab: is another vocabulary", VILLAGE "--out @/mine --tokens 100"},
    {1, "--seq-len", VILLAGE "--floor --out @/x --seq-len 700"}, // longer than the text
    {1, "no token is masked", VILLAGE "--floor --out @/x --seq-len 1 --val-rows 1 --mask-rate 1e-6"},
    {1, "not from the village", VILLAGE "--floor --out @/wrong --val-rows 4 --objective ntp"},
    {1, "vocabulary", VILLAGE "--floor --out @/other --val-rows 4 --objective ntp"},
    {1, "too short", VILLAGE "--floor --out @/short --val-rows 4 --objective ntp"},
    {1, "first line", VILLAGE "--floor --out @/nameless"},
    {1, "y_val.bin", VILLAGE "--out @/y --tokens 100 --people 100"}, // is a folder
};

static void test_village_refusals(void) {
    must_run(VILLAGE "--out @/x --tokens 100 --val-tokens 600 --people 100");
    must_run("cd @ && for name in wrong other short nameless y; do cp x_val.floor ${name}_val.floor; done");
    must_run("cd @ && echo >mine.vocab && mkdir y_val.bin && head -c 1000 x_val.bin >short_val.bin && "
             "cp x_val.bin nameless_val.bin && echo mlm 128 0.2 512 1 1 1 1 >nameless_val.floor");
    size_t n;
    char *val = slurp(scratch("x_val.bin"), &n);
    int32_t *header = (int32_t *)val;
    header[3]++;
    write_bytes(scratch("other_val.bin"), val, n);
    header[3]--, memset(header + HEADER + 50, 0, 4); // two first names in a row
    write_bytes(scratch("wrong_val.bin"), val, n);
    free(val);
    check_refusals(village_refusals, sizeof village_refusals / sizeof *village_refusals);
    must_run("cmp @/x_val.floor @/y_val.floor"); // what could not be replaced together stays
}

static const Test tests[] = {
    {"pieces", test_pieces, 0},
    {"encode by hand", test_encode_by_hand, 0},
    {"encode", test_encode, 0},
    {"learn", test_learn, 0},
    {"round trip", test_round_trip, 0},
    {"split documents", test_split, 0},
    {"cut off validation", test_cut, 0},
    {"tokenize", test_tokenize, 0},
    {"tokenize inputs", test_tokenize_inputs, 0},
    {"tokenize hints", test_tokenize_hints, 0},
    {"tokenize shuffle", test_tokenize_shuffle, 0},
    {"tokenize identity", test_tokenize_identity, 0},
    {"tokenize refusals", test_tokenize_refusals, 0},
    {"tokenize killed", test_tokenize_killed, 0},
    {"village row", test_village_row, 0},
    {"village stationary", test_village_stationary, 0},
    {"village sums", test_village_sums, 0},
    {"village people", test_village_people, 0},
    {"village files", test_village_files, 0},
    {"village floor", test_village_floor, 0},
    {"village refusals", test_village_refusals, 0},
};

int main(int argc, char **argv) {
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
