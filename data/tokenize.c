/*
Turn text into token shards, and back, by byte-level byte-pair encoding (BPE).

    data/tokenize --out PREFIX FILE…     writes PREFIX_train.bin, PREFIX_val.bin and PREFIX.vocab
    data/tokenize --decode --vocab PREFIX.vocab PREFIX_val.bin     prints the text

The text is split into documents, and the last few percent are set aside for validation. A vocabulary is
learned from the rest, unless --vocab gives one. Then each document becomes an end-of-text token followed by
the tokens of its text. dev/eval uses the chapter on encoding, data/village the one on output files.
*/
#ifndef TOKENIZE_C
#define TOKENIZE_C
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#include "../train_optibert.c"
#include <dirent.h>
#include <sys/mman.h>

// ----------------------------------------------------------------------------
// a hash table of strings, for the vocabulary and for the words that it is learned from

typedef struct {
    const char *s; // (n) not zero-terminated, and not owned by the table
    uint32_t n, hash;
    uint64_t value;
} StringEntry;

typedef struct {
    StringEntry *entry; // (n) in the order in which they were added
    size_t n, room;
    uint32_t *slots;    // (n_slots) 1 + the number of an entry, or 0 if the slot is free
    size_t n_slots;     // a power of two
} StringTable;

// Make room for one more element in an array that holds n and has space for `room`. Returns the array, or a
// larger copy of it.
void *bpe_grow(void *array, size_t n, size_t *room, size_t element) {
    if (n < *room) return array;
    void *larger = alloc_or_die((*room = 2 * *room + 1024) * element);
    if (n > 0) memcpy(larger, array, n * element);
    free(array);
    return larger;
}

static uint32_t string_hash(const char *s, size_t n) {
    uint64_t x = checksum_add(n, s, n);
    return (uint32_t)(((x ^ x >> 32) * 0x9e3779b97f4a7c15u) >> 32);
}

// The slot of a string, or the free slot where it belongs.
static uint32_t *string_slot(const StringTable *t, const char *s, size_t n, uint32_t hash) {
    for (size_t i = hash;; i++) {
        uint32_t *slot = &t->slots[i & (t->n_slots - 1)];
        if (*slot == 0) return slot;
        const StringEntry *e = &t->entry[*slot - 1];
        if (e->hash == hash && e->n == n && memcmp(e->s, s, n) == 0) return slot;
    }
}

// The entry of a string, or NULL.
StringEntry *string_find(const StringTable *t, const char *s, size_t n) {
    if (t->n == 0) return NULL;
    uint32_t slot = *string_slot(t, s, n, string_hash(s, n));
    return slot ? &t->entry[slot - 1] : NULL;
}

// Add a string that is not in the table yet.
void string_add(StringTable *t, const char *s, size_t n, uint64_t value) {
    if (2 * t->n >= t->n_slots) { // at most half of the slots are used, so that searches stay short
        free(t->slots);
        t->n_slots = t->n_slots ? 2 * t->n_slots : 1 << 10;
        t->slots = alloc_or_die(t->n_slots * sizeof *t->slots);
        for (size_t k = 0; k < t->n; k++) {
            StringEntry *e = &t->entry[k];
            *string_slot(t, e->s, e->n, e->hash) = (uint32_t)k + 1;
        }
    }
    uint32_t hash = string_hash(s, n);
    uint32_t *slot = string_slot(t, s, n, hash);
    t->entry = bpe_grow(t->entry, t->n, &t->room, sizeof *t->entry);
    t->entry[t->n++] = (StringEntry){s, (uint32_t)n, hash, value};
    *slot = (uint32_t)t->n;
}

// ----------------------------------------------------------------------------
// encoding: from text to token ids

// A whole file of text, with a zero after it. In memory that the caller frees.
char *read_whole(const char *path) {
    Reader r;
    reader_open(&r, path);
    char *text = alloc_or_die(r.size + 2);
    reader_get(&r, text, r.size);
    fclose(r.file);
    if (strlen(text) < r.size) die("%s: holds zero bytes, so it is not text; convert it to UTF-8", path);
    return text;
}

typedef struct {
    Vocab vocab;
    int has_bytes;   // every single byte is a token, so that any text can be encoded
    StringTable ids; // the id of each string
} Encoder;

// The id of a string, or -1. If several tokens have this string, it is the lowest of their ids. The string of
// end of text is never found: in a text it is text.
int vocab_find(const Encoder *e, const char *s, size_t n) {
    const StringEntry *found = string_find(&e->ids, s, n);
    return found ? (int)found->value : -1;
}

// An encoder for a vocabulary, whose strings it goes on using.
void encoder_make(Encoder *e, const Vocab *v) {
    *e = (Encoder){.vocab = *v, .has_bytes = 1};
    for (size_t id = 0; id < v->V; id++)
        if ((int)id != v->eot && vocab_find(e, v->string[id], v->length[id]) < 0)
            string_add(&e->ids, v->string[id], v->length[id], id);
    for (int byte = 0; byte < 256; byte++)
        if (vocab_find(e, &(char){(char)byte}, 1) < 0) e->has_bytes = 0;
}

// 0: white space, 1: letters (A–Z, a–z, and all bytes ≥ 0x80), 2: digits, 3: anything else.
static int byte_class(char c) {
    unsigned char u = (unsigned char)c;
    if (u == ' ' || (u >= '\t' && u <= '\r')) return 0;
    if ((u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u >= 0x80) return 1;
    return u >= '0' && u <= '9' ? 2 : 3;
}

// The class of the character at the beginning of a text of n > 0 bytes, and its length in bytes. In three
// blocks of Unicode nearly everything is punctuation (« “ ’ — … 「), so their UTF-8 sequences count as "anything
// else": U+0080–U+00BF (C2 xx), U+2000–U+207F (E2 80 xx, E2 81 xx), U+3000–U+303F (E3 80 xx).
static int char_class(const char *text, size_t n, size_t *length) {
    const unsigned char *u = (const unsigned char *)text;
    int two = n > 1 && u[0] == 0xC2 && (u[1] & 0xC0) == 0x80;
    int three = n > 2 && ((u[0] == 0xE2 && (u[1] & 0xFE) == 0x80) || (u[0] == 0xE3 && u[1] == 0x80)) &&
                (u[2] & 0xC0) == 0x80;
    *length = three ? 3 : two ? 2 : 1;
    return *length > 1 ? 3 : byte_class(text[0]);
}

// Text is encoded piece by piece, and no token crosses from one piece into the next. A piece is a run of
// characters of one class; a single space before letters, digits or others belongs to their piece. Returns
// the length of the first piece of a text of n > 0 bytes. Runs longer than PIECE_MAX are cut there, because
// the time for a piece grows with the square of its length.
#define PIECE_MAX 1024
size_t piece_length(const char *text, size_t n) {
    size_t i = text[0] == ' ' && n > 1, length;
    n = MIN(n, PIECE_MAX);
    int class = char_class(text + i, n - i, &length);
    while (i < n && char_class(text + i, n - i, &length) == class) i += length;
    return i;
}

// Encode one piece of n bytes by a vocabulary that has all bytes. At first each byte is a symbol. In each
// round, of all strings that two neighbours form together, the one with the lowest id is chosen, and wherever
// neighbours form it they are joined, from left to right. Returns the number of ids; ids has room for n.
size_t encode_piece(const Encoder *e, const char *s, size_t n, uint16_t *ids) {
    int32_t few[3 * 65];
    int32_t *start = n <= 64 ? few : alloc_or_die(3 * (n + 1) * sizeof *start); // (count + 1) byte offsets
    int32_t *id = start + n + 1; // (count) of each symbol
    int32_t *joint = id + n + 1; // (count - 1) the id of a symbol joined to the next one, or -1 …
    enum { STALE = -2 };         // … or this, when it has to be looked up
    size_t count = n;
    for (size_t i = 0; i <= n; i++) start[i] = (int32_t)i;
    for (size_t i = 0; i < n; i++) id[i] = vocab_find(e, s + i, 1), joint[i] = STALE;
    for (;;) {
        int32_t best = INT32_MAX;
        for (size_t i = 0; i + 1 < count; i++) {
            if (joint[i] == STALE) joint[i] = vocab_find(e, s + start[i], (size_t)(start[i + 2] - start[i]));
            if (joint[i] >= 0 && joint[i] < best) best = joint[i];
        }
        if (best == INT32_MAX) break;
        size_t to = 0;
        for (size_t i = 0; i < count; to++) {
            int join = i + 1 < count && joint[i] == best;
            if (join && to > 0) joint[to - 1] = STALE;
            start[to] = start[i], id[to] = join ? best : id[i], joint[to] = join ? STALE : joint[i];
            i += join ? 2 : 1;
        }
        start[to] = (int32_t)n, count = to;
    }
    for (size_t i = 0; i < count; i++) ids[i] = (uint16_t)id[i];
    if (start != few) free(start);
    return count;
}

// The length of the token at offset i of a text of n bytes, in a vocabulary of whole words (the village's):
// the longest string that fits. 0 means a space that no word begins with, which is to be skipped. Dies if the
// vocabulary lacks a word.
static size_t longest_token(const Encoder *e, const char *text, size_t n, size_t i) {
    for (size_t length = MIN(n - i, 255); length > 0; length--)
        if (vocab_find(e, text + i, length) >= 0) return length;
    if (text[i] == ' ') return 0;
    size_t begin = i, end = i + 1;
    while (begin > 0 && byte_class(text[begin - 1]) != 0) begin--;
    while (end < n && byte_class(text[end]) != 0) end++;
    die("\"%.*s\": this word is not in the vocabulary; use its words only", (int)(end - begin), text + begin);
}

// Encode a text of n bytes, by merges or by whole words, depending on the vocabulary. Returns the number of
// ids; ids has room for n.
size_t encode_text(const Encoder *e, const char *text, size_t n, uint16_t *ids) {
    size_t count = 0;
    for (size_t i = 0, step; i < n; i += step) {
        if (e->has_bytes) {
            step = piece_length(text + i, n - i);
            count += encode_piece(e, text + i, step, ids + count);
        } else if ((step = longest_token(e, text, n, i)) > 0) {
            ids[count++] = (uint16_t)vocab_find(e, text + i, step);
        } else step = 1;
    }
    return count;
}

// ----------------------------------------------------------------------------
// documents

typedef struct {
    const char *s; // (n) not zero-terminated; part of the input
    size_t n;
} Text;

typedef struct {
    Text *text; // (n) documents, none of them empty
    size_t n, room;
} Texts;

void bpe_add_text(Texts *t, const char *s, size_t n) {
    if (n == 0) return;
    t->text = bpe_grow(t->text, t->n, &t->room, sizeof *t->text);
    t->text[t->n++] = (Text){s, n};
}

// How often a string occurs in a text.
size_t count_string(const char *s, size_t n, const char *string) {
    size_t count = 0, m = strlen(string);
    for (const char *end = s + n; (s = memmem(s, (size_t)(end - s), string, m)); s += m) count++;
    return count;
}

// Documents end at a separator. Usually it is on a line by itself, so a line break right after it belongs to
// it and not to the next document.
void bpe_split_separator(Texts *t, const char *s, size_t n, const char *separator) {
    const char *end = s + n, *hit;
    size_t m = strlen(separator);
    while ((hit = memmem(s, (size_t)(end - s), separator, m)) != NULL) {
        bpe_add_text(t, s, (size_t)(hit - s));
        s = hit + m;
        if (s < end && *s == '\n') s += 1;
        else if (end - s >= 2 && s[0] == '\r' && s[1] == '\n') s += 2;
    }
    bpe_add_text(t, s, (size_t)(end - s));
}

// Documents are runs of lines that are not blank. A line of white space only is blank.
void bpe_split_blank_lines(Texts *t, const char *s, size_t n) {
    const char *end = s + n, *document = s;
    while (s < end) {
        const char *newline = memchr(s, '\n', (size_t)(end - s)), *next = newline ? newline + 1 : end, *p = s;
        while (p < next && byte_class(*p) == 0) p++;
        if (p == next) {
            bpe_add_text(t, document, (size_t)(s - document));
            document = next;
        }
        s = next;
    }
    bpe_add_text(t, document, (size_t)(end - document));
}

// Put the documents in a seeded order, so that validation is a fair sample of all of them.
void bpe_shuffle(Texts *t, uint64_t seed) {
    Text *old = t->text;
    t->text = alloc_or_die(t->room * sizeof *old);
    for (size_t i = 0; i < t->n; i++) t->text[i] = old[shuffled_row(i, t->n, seed, 0)];
    free(old);
}

// Text of `total` bytes should be cut at `target`, but can only be cut at `before` or at `after`.
// Returns the nearer of the two that leaves between half and twice the validation text that was
// asked for; 0 if neither does.
static size_t bpe_nearer_cut(size_t before, size_t after, size_t target, size_t total) {
    size_t wanted = total - target;
    int before_fits = before > 0 && total - before <= 2 * wanted, after_fits = 2 * (total - after) >= wanted;
    if (before_fits && after_fits) return target - before <= after - target ? before : after;
    return before_fits ? before : after_fits ? after : 0;
}

// Choose where validation begins, so that it has about this fraction of the bytes: between two documents if
// that comes near enough (see bpe_nearer_cut), or else at the end of a line, or else between two pieces;
// never inside a UTF-8 sequence. Returns the number of the first document for validation, or t->n if there is
// no such place. A document that is cut becomes two, because a shard has to begin with an end of text.
size_t bpe_cut(Texts *t, double fraction) {
    size_t total = 0, start = 0, d = 0;
    for (size_t i = 0; i < t->n; i++) total += t->text[i].n;
    size_t target = total - (size_t)(fraction * (double)total + 0.5);
    if (target == total) return t->n;
    while (start + t->text[d].n <= target) start += t->text[d++].n; // the target is in document d
    const char *s = t->text[d].s;
    size_t n = t->text[d].n, middle = target - start, before = middle, after = middle;
    size_t cut = bpe_nearer_cut(start, start + n, target, total);
    if (cut > 0) return cut == start ? d : d + 1;

    while (before > 0 && s[before - 1] != '\n') before--;
    while (after < n && (after == 0 || s[after - 1] != '\n')) after++;
    cut = bpe_nearer_cut(start + before, start + after, target, total);
    if (cut == 0) {
        before = after = 0;
        for (size_t i = 0; i < n && after <= middle;) {
            i += piece_length(s + i, n - i);
            if (i < n && ((unsigned char)s[i] & 0xC0) == 0x80) continue; // PIECE_MAX has cut a letter in two
            before = after, after = i;
        }
        cut = bpe_nearer_cut(start + before, start + after, target, total);
    }
    if (cut == 0) return t->n;
    bpe_add_text(t, s, n); // makes room for one more; the documents after d move into it
    memmove(&t->text[d + 2], &t->text[d + 1], (t->n - d - 2) * sizeof *t->text);
    t->text[d] = (Text){s, cut - start};
    t->text[d + 1] = (Text){s + (cut - start), n - (cut - start)};
    return d + 1;
}

// ----------------------------------------------------------------------------
// learning: the merges
//
// Only the distinct pieces of the text, its "words", are kept, each with the number of times it occurs. They
// are laid out in memory one after the other, with a place for each byte:
//
//     place     0     1    2    3    4     5    6    7    8
//     symbol   EDGE   t    h    e   EDGE   t    h    e    n   EDGE …      at first, every byte is a token;
//     symbol   EDGE   th   th   e   EDGE   th   th   e    n   EDGE …      then t and h are joined to th;
//     symbol   EDGE  the   h   the  EDGE  the   h   the   n   EDGE …      then th and e are joined to the
//
// A token has its id in its first and in its last place, so its neighbours on both sides are found directly.
// All places where the same two tokens meet are in a linked list. To join a pair is to walk through its list.

#define BPE_DISTINCT_MAX ((size_t)1 << 25) // bytes of distinct words to learn from; takes up to 1 GB
#define BPE_EDGE 65535                     // no token has this id

typedef struct {
    uint32_t key;        // 1 + (left << 16 | right); 0: this slot is free
    uint32_t head, tail; // first and last place in its list, which ascends; 0: the list is empty
    uint64_t count;      // how often the pair occurs in the text
} BpePair;

typedef struct {
    uint64_t count; // at least as high as the pair's count is now
    uint32_t key;
} BpeCandidate;

typedef struct {
    const Vocab *vocab;
    const StringEntry *words; // value: how often the word occurs
    uint16_t *symbol;         // (places)
    uint32_t *word;           // (places) the number of the word
    uint32_t *before, *after; // (places) previous and next place in the list of the pair that begins here
    BpePair *pair;            // (n_slots) hash table
    size_t n_slots, used;
    BpeCandidate *heap;       // (n_heap) a binary heap, the best at the top
    size_t n_heap, heap_room;
} BpeLearner;

// The order of merges: the more frequent pair first; of equally frequent ones, the one whose left token has
// the lower id, or else whose right token has.
static int bpe_better(BpeCandidate a, BpeCandidate b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static void bpe_push(BpeLearner *b, BpeCandidate c) {
    b->heap = bpe_grow(b->heap, b->n_heap, &b->heap_room, sizeof *b->heap);
    size_t i = b->n_heap++;
    for (; i > 0 && bpe_better(c, b->heap[(i - 1) / 2]); i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = c;
}

static BpeCandidate bpe_pop(BpeLearner *b) {
    BpeCandidate best = b->heap[0], last = b->heap[--b->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && bpe_better(b->heap[child + 1], b->heap[child])) child++;
        if (!bpe_better(b->heap[child], last)) break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return best;
}

// The slot of a pair, or the free slot where it belongs.
static BpePair *bpe_pair(const BpeLearner *b, uint32_t key) {
    size_t i = (size_t)((key * (uint64_t)0x9e3779b97f4a7c15u) >> 32);
    while (b->pair[i & (b->n_slots - 1)].key != 0 && b->pair[i & (b->n_slots - 1)].key != key) i++;
    return &b->pair[i & (b->n_slots - 1)];
}

// Make a new hash table, at most a quarter full, of the pairs that still occur.
static void bpe_rehash_pairs(BpeLearner *b) {
    BpePair *old = b->pair;
    size_t n_old = b->n_slots, live = 0;
    for (size_t i = 0; i < n_old; i++) live += old[i].head != 0;
    for (b->n_slots = 1 << 16; b->n_slots < 4 * live; b->n_slots *= 2) {}
    b->pair = alloc_or_die(b->n_slots * sizeof *b->pair);
    b->used = live;
    for (size_t i = 0; i < n_old; i++)
        if (old[i].head != 0) *bpe_pair(b, old[i].key) = old[i];
    free(old);
}

// Append a place to the list of the pair (left, right).
static void bpe_link(BpeLearner *b, uint32_t left, uint32_t right, uint32_t place) {
    if (2 * b->used >= b->n_slots) bpe_rehash_pairs(b);
    uint32_t key = (left << 16 | right) + 1;
    BpePair *p = bpe_pair(b, key);
    if (p->key == 0) p->key = key, b->used++;
    if (p->head == 0) bpe_push(b, (BpeCandidate){UINT64_MAX, key}), p->head = place;
    else b->after[p->tail] = place;
    b->before[place] = p->tail, b->after[place] = 0;
    p->tail = place;
    p->count += b->words[b->word[place]].value;
}

// Take a place out of the list of the pair (left, right).
static void bpe_unlink(BpeLearner *b, uint32_t left, uint32_t right, uint32_t place) {
    BpePair *p = bpe_pair(b, (left << 16 | right) + 1);
    uint32_t before = b->before[place], after = b->after[place];
    *(before ? &b->after[before] : &p->head) = after;
    *(after ? &b->before[after] : &p->tail) = before;
    p->count -= b->words[b->word[place]].value;
}

// Join the tokens left and right at `place` into the token `joint`. Their pairs with the neighbours change
// too. The places of a pair are joined in ascending order, and the pairs that contain the new token are all
// made during this one merge, so that every list stays in ascending order.
static void bpe_join(BpeLearner *b, uint32_t place, uint32_t left, uint32_t right, uint32_t joint) {
    uint32_t middle = place + b->vocab->length[left], end = middle + b->vocab->length[right];
    uint32_t previous = b->symbol[place - 1], next = b->symbol[end];
    bpe_unlink(b, left, right, place);
    if (previous != BPE_EDGE) {
        bpe_unlink(b, previous, left, place - b->vocab->length[previous]);
        bpe_link(b, previous, joint, place - b->vocab->length[previous]);
    }
    if (next != BPE_EDGE) {
        bpe_unlink(b, right, next, middle);
        bpe_link(b, joint, next, place);
    }
    b->symbol[place] = b->symbol[end - 1] = (uint16_t)joint;
}

// The key of the best pair that occurs at least twice; 0 if there is none. A pair's count may have fallen
// since it was put in the heap. When such a pair comes to the top, it goes back in with its present count, so
// what is returned is the true maximum.
static uint32_t bpe_best_pair(BpeLearner *b) {
    while (b->n_heap > 0) {
        BpeCandidate c = bpe_pop(b);
        uint64_t count = bpe_pair(b, c.key)->count;
        if (count == c.count) return c.key;
        if (count >= 2) bpe_push(b, (BpeCandidate){count, c.key});
    }
    return 0;
}

// Lay out the words, whose lengths add up to `bytes`, and link all pairs.
static void bpe_learner_open(BpeLearner *b, const StringTable *words, size_t bytes, const Vocab *v) {
    size_t places = bytes + words->n + 1, place = 0;
    *b = (BpeLearner){.vocab = v, .words = words->entry};
    b->symbol = alloc_or_die(places * sizeof *b->symbol);
    b->word = alloc_or_die(places * sizeof *b->word);
    b->before = alloc_or_die(places * sizeof *b->before);
    b->after = alloc_or_die(places * sizeof *b->after);
    b->symbol[place++] = BPE_EDGE;
    for (size_t k = 0; k < words->n; k++) {
        for (size_t i = 0; i < words->entry[k].n; i++, place++) {
            b->symbol[place] = (unsigned char)words->entry[k].s[i];
            b->word[place] = (uint32_t)k;
            if (i > 0) bpe_link(b, b->symbol[place - 1], b->symbol[place], (uint32_t)place - 1);
        }
        b->symbol[place++] = BPE_EDGE;
    }
}

// Give the next id to the string that consists of these two. The vocabulary is put together as
// the file that it will be.
static void bpe_add_token(Vocab *v, const char *left, size_t n_left, const char *right, size_t n_right) {
    char *s = v->file + v->size + 1;
    s[-1] = (char)(v->length[v->V] = (unsigned char)(n_left + n_right));
    memcpy(s, left, n_left), memcpy(s + n_left, right, n_right);
    v->string[v->V++] = s, v->size += 1 + n_left + n_right;
}

// Learn a vocabulary of V ids from n documents: the 256 bytes, the merges, end of text. It stays smaller if
// the text has not enough pairs that occur twice. Pairs are passed over if they are longer than 255 bytes,
// the most that fits in the file. No string is learned twice, because the same bytes between two boundaries
// of tokens are always joined in the same way. That is why encode_piece(), which knows only the strings,
// makes the very joins that were made here.
void bpe_learn(Vocab *v, const Text *text, size_t n, size_t V) {
    static const char eot[] = "<|endoftext|>";
    StringTable words = {0};
    size_t bytes = 0; // of all distinct words
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0, step; at < text[i].n; at += step) {
            const char *s = text[i].s + at;
            step = piece_length(s, text[i].n - at);
            StringEntry *word = step > 1 ? string_find(&words, s, step) : NULL;
            if (word) word->value++;
            else if (step > 1 && bytes + step <= BPE_DISTINCT_MAX)
                string_add(&words, s, step, 1), bytes += step;
        }
    *v = (Vocab){.file = alloc_or_die(HEADER * sizeof(int32_t) + V * 256), .size = HEADER * sizeof(int32_t)};
    v->length = alloc_or_die(V), v->string = alloc_or_die(V * sizeof *v->string);
    for (int byte = 0; byte < 256; byte++) bpe_add_token(v, &(char){(char)byte}, 1, "", 0);

    BpeLearner b;
    uint32_t key, place;
    bpe_learner_open(&b, &words, bytes, v);
    while (v->V + 1 < V && (key = bpe_best_pair(&b)) != 0) {
        uint32_t left = (key - 1) >> 16, right = (key - 1) & 65535, joint = (uint32_t)v->V;
        if (v->length[left] + v->length[right] > 255) continue;
        bpe_add_token(v, v->string[left], v->length[left], v->string[right], v->length[right]);
        while ((place = bpe_pair(&b, key)->head) != 0) bpe_join(&b, place, left, right, joint);
    }
    free(b.symbol), free(b.word), free(b.before), free(b.after), free(b.pair), free(b.heap);
    free(words.entry), free(words.slots);
    v->eot = (int)v->V;
    bpe_add_token(v, eot, sizeof eot - 1, "", 0);
    memcpy(v->file, (int32_t[]){VOCAB_MAGIC, 2, (int32_t)v->V, v->eot}, 4 * sizeof(int32_t));
    v->checksum = checksum_add(CHECKSUM_START, v->file, v->size);
}

// ----------------------------------------------------------------------------
// shards

// Most of a text is a few thousand words, so encoded pieces are remembered: in each slot of a table the last
// one that was met. A piece or a result too long for a slot, which takes 64 bytes, is encoded every time.
#define BPE_CACHE_BITS 16
typedef struct {
    unsigned char n, count; // of s and of ids; n = 0: the slot is free
    char s[24];
    uint16_t ids[19];
} BpeCached;

// encode_piece() with this memory.
size_t bpe_encode_cached(const Encoder *e, BpeCached *cache, const char *s, size_t n, uint16_t *ids) {
    if (n > sizeof cache->s) return encode_piece(e, s, n, ids);
    BpeCached *c = &cache[string_hash(s, n) >> (32 - BPE_CACHE_BITS)];
    if (c->n == n && memcmp(c->s, s, n) == 0) {
        for (size_t i = 0; i < c->count; i++) ids[i] = c->ids[i];
        return c->count;
    }
    size_t count = encode_piece(e, s, n, ids);
    if (count > sizeof c->ids / sizeof *c->ids) return count;
    c->n = (unsigned char)n, c->count = (unsigned char)count;
    memcpy(c->s, s, n), memcpy(c->ids, ids, count * sizeof *ids);
    return count;
}

#define BPE_BUFFER 65536 // tokens written at a time

// Write n documents as a shard. Its header says which vocabulary it was made with. Returns the number of
// tokens, which is known only at the end, when the header is written once more.
size_t bpe_put_shard(Writer *w, const Encoder *e, const Text *text, size_t n) {
    int32_t header[HEADER] = {SHARD_MAGIC, 1, 0, (int32_t)e->vocab.V, e->vocab.eot + 1};
    memcpy(&header[5], &e->vocab.checksum, sizeof e->vocab.checksum);
    BpeCached *cache = alloc_or_die(sizeof *cache << BPE_CACHE_BITS);
    uint16_t *ids = alloc_or_die((BPE_BUFFER + 1 + PIECE_MAX) * sizeof *ids);
    size_t tokens = 0, ready = 0;
    writer_put(w, header, sizeof header);
    for (size_t i = 0; i < n; i++) {
        ids[ready++] = (uint16_t)e->vocab.eot;
        for (size_t at = 0, step; at < text[i].n; at += step) {
            step = piece_length(text[i].s + at, text[i].n - at);
            ready += bpe_encode_cached(e, cache, text[i].s + at, step, ids + ready);
            if (ready < BPE_BUFFER && (at + step < text[i].n || i + 1 < n)) continue;
            writer_put(w, ids, ready * sizeof *ids);
            tokens += ready, ready = 0;
            if (tokens > INT32_MAX)
                die("%s: more than 2147483647 tokens do not fit in a shard; tokenize the files in several "
                    "runs, all but the first with --vocab", w->path);
        }
    }
    header[2] = (int32_t)tokens;
    if (fseek(w->file, 0, SEEK_SET)) die("%s: cannot write: %s", w->path, strerror(errno));
    writer_put(w, header, sizeof header);
    free(ids), free(cache);
    return tokens;
}

// Print the text of a shard: exactly the bytes of each document, with `between` between two documents. *last
// is the last byte printed, or -1 before the first document. Tokens before the first end of text belong to a
// document that began in another shard, and are printed like all others.
void bpe_decode(const Vocab *v, const char *shard, const char *between, int *last, FILE *out) {
    Reader r;
    size_t V;
    int eot;
    uint64_t vocab; // checksum; 0: the shard does not say
    reader_open(&r, shard);
    size_t tokens = shard_header(&r, &V, &eot);
    fseek(r.file, 5 * sizeof(int32_t), SEEK_SET), reader_get(&r, &vocab, sizeof vocab);
    if (V != v->V || eot != v->eot || (vocab && vocab != v->checksum))
        die("%s: made with another vocabulary (%zu ids, checksum %016llx) than --vocab (%zu, %016llx); give "
            "its own", shard, V, (unsigned long long)vocab, v->V, (unsigned long long)v->checksum);
    fseek(r.file, HEADER * sizeof(int32_t), SEEK_SET);
    while (tokens > 0) {
        uint16_t ids[4096];
        size_t n = MIN(tokens, sizeof ids / sizeof *ids);
        reader_get(&r, ids, n * sizeof *ids);
        for (size_t i = 0; i < n; i++) {
            if (ids[i] >= V)
                die("%s: token %u is outside its vocabulary of %zu; make it again", shard, ids[i], V);
            const char *string = v->string[ids[i]];
            size_t length = v->length[ids[i]];
            if (ids[i] != eot) {
                fwrite(string, length, 1, out);
                *last = (unsigned char)string[length - 1];
            } else if (*last >= 0) {
                if (between[0] == '\n' && *last != '\n') fputc('\n', out); // a blank line needs two
                fputs(between, out);
            }
        }
        tokens -= n;
    }
    fclose(r.file);
}

// ----------------------------------------------------------------------------
// output files
//
// PREFIX_train.bin, PREFIX_val.bin and PREFIX.vocab belong together. One program at a time may write the files
// of a prefix, and they are replaced together: when all are written to the end, all are renamed.

static struct {
    const char *prefix, *lock; // lock: PREFIX.tmp, which is locked while the program runs, and then removed …
    FILE *scratch;             // … and until then may hold anything
    Writer file[4];            // (n) in the order in which they are renamed
    size_t n;
} outputs;

// However the program ends, it leaves no temporary files.
static void outputs_clean_up(void) {
    for (size_t i = 0; i < outputs.n; i++) unlink(outputs.file[i].temporary);
    unlink(outputs.lock);
}

static void outputs_interrupted(int number) {
    outputs_clean_up();
    signal(number, SIG_DFL);
    raise(number);
}

// The path PREFIX + ending, in memory that lasts.
const char *prefix_path(const char *prefix, const char *ending) {
    char *path = alloc_or_die(strlen(prefix) + strlen(ending) + 1);
    return strcat(strcpy(path, prefix), ending);
}

// Begin to write files of this prefix. Dies if another program does.
void outputs_open(const char *prefix) {
    static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGXCPU, SIGXFSZ};
    const char *path = prefix_path(prefix, ".tmp");
    struct stat held, now;
    do { // again if its last holder removes the file before it is locked here
        outputs.scratch = fopen(path, "ab+");
        if (!outputs.scratch) die("--out %s: cannot write: %s; choose another", prefix, strerror(errno));
        int fd = fileno(outputs.scratch), failure = flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
        if (failure == EWOULDBLOCK)
            die("--out %s: another program is writing these files; let it end, or choose another", prefix);
        if (failure)
            fprintf(stderr, "%s: %s: cannot be locked (%s); let no other program write these files\n", program,
                    path, strerror(failure));
        fstat(fd, &held);
    } while (stat(path, &now) || now.st_ino != held.st_ino);
    outputs.prefix = prefix, outputs.lock = path;
    atexit(outputs_clean_up);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (signal(ends[i], outputs_interrupted) == SIG_IGN) signal(ends[i], SIG_IGN); // nohup's, for example
}

// Begin to write PREFIX + ending.
Writer *outputs_add(const char *ending) {
    const char *path = prefix_path(outputs.prefix, ending);
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        die("%s: cannot write: this is a folder; choose another --out", path);
    writer_open(&outputs.file[outputs.n++], path);
    return &outputs.file[outputs.n - 1];
}

// Die, with this advice, if there is a PREFIX.vocab that differs from this one.
void outputs_keep_vocab(const Vocab *v, const char *advice) {
    const char *path = prefix_path(outputs.prefix, ".vocab");
    Reader r;
    if (access(path, F_OK)) return;
    reader_open(&r, path);
    if (checksum_file(&r, r.size) != v->checksum)
        die("%s: is another vocabulary, which models may need; %s", path, advice);
    fclose(r.file);
}

// Replace the files by what was written.
void outputs_commit(void) {
    char new[64] = "";
    for (Writer *w = outputs.file; w < outputs.file + outputs.n; w++)
        if (ferror(w->file) || fflush(w->file) || fsync(fileno(w->file)) || fclose(w->file)) writer_fail(w);
    for (Writer *w = outputs.file; w < outputs.file + outputs.n; w++) {
        if (rename(w->temporary, w->path))
            die("%s: cannot be replaced: %s; of %s, these are new:%s; run this again", w->path, strerror(errno),
                outputs.prefix, *new ? new : " none");
        strcat(strcat(new, " "), w->path + strlen(outputs.prefix));
    }
    outputs.n = 0;
}

// ----------------------------------------------------------------------------
// input files

// Die if a file begins with n bytes that show it is not plain text, but something that is often taken for it.
static void input_check(const char *path, const char *s, size_t n) {
    static const char *const packed[][2] = {{"\x1f\x8b", "gunzip"}, {"\xfd" "7zXZ", "unxz"},
        {"\x28\xb5\x2f\xfd", "unzstd"}, {"BZh91AY", "bunzip2"}, {"PK\3\4", "unzip"}};
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++)
        if (n >= strlen(packed[i][0]) && memcmp(s, packed[i][0], strlen(packed[i][0])) == 0)
            die("%s: is compressed; unpack it first, with %s", path, packed[i][1]);
    int marked = n > 1 && (memcmp(s, "\xff\xfe", 2) == 0 || memcmp(s, "\xfe\xff", 2) == 0);
    size_t zeros[2] = {0}; // at even and at odd offsets
    for (size_t i = 0; i < n; i++) zeros[i % 2] += s[i] == 0;
    if (marked || 20 * (zeros[0] + zeros[1]) > n)
        die("%s: is UTF-16, or not text at all; convert it first, with iconv -f UTF-16%s -t UTF-8", path,
            marked ? "" : zeros[1] > zeros[0] ? "LE" : "BE");
}

// Copy a file to the end of another one, or a pipe up to its end. The path - is standard input. Returns the
// number of bytes.
size_t input_copy(const char *path, FILE *to) {
    char buffer[1 << 16];
    struct stat before, after, own;
    size_t size = 0;
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!f || fstat(fileno(f), &before)) die("%s: cannot read: %s", path, strerror(errno));
    if (fstat(fileno(to), &own) == 0 && before.st_dev == own.st_dev && before.st_ino == own.st_ino)
        die("%s: is a temporary file of this program; run this again, or leave it out", path);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0; size += n) {
        if (size == 0) input_check(path, buffer, n);
        if (fwrite(buffer, n, 1, to) != 1)
            die("%s: cannot write: %s; make room for a copy of the text", outputs.lock, strerror(errno));
    }
    if (ferror(f) || fstat(fileno(f), &after)) die("%s: cannot read: %s", path, strerror(errno));
    if (S_ISREG(before.st_mode) && (after.st_size != before.st_size || after.st_mtime != before.st_mtime))
        die("%s: has changed while it was read; run this again when nothing writes to it", path);
    if (f != stdin) fclose(f);
    return size;
}

// Add a file, or all files in a folder and in those below it, sorted by name. Links to files are followed,
// links to folders are not.
void input_add(Files *f, const char *path) {
    struct dirent **entry;
    struct stat st;
    int n = strcmp(path, "-") ? scandir(path, &entry, NULL, alphasort) : -1;
    if (n < 0 && strcmp(path, "-") && errno != ENOTDIR) die("%s: cannot read: %s", path, strerror(errno));
    if (n < 0) add_file(f, path);
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name, *inside = prefix_path(prefix_path(path, "/"), name);
        if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
        if (lstat(inside, &st) == 0 && S_ISDIR(st.st_mode)) input_add(f, inside);
        else if (stat(inside, &st) == 0 && S_ISREG(st.st_mode)) add_file(f, inside);
    }
}

// ----------------------------------------------------------------------------
// the program
#ifndef TOKENIZE_NO_MAIN

typedef struct {
    Files files;
    const char *files_from, *out, *vocab, *separator;
    size_t vocab_size, shuffle;
    double val_fraction;
    int blank_lines, overwrite, decode, help;
} TokenizeSettings;

#define TO(field) .offset = offsetof(TokenizeSettings, field)
static Option tokenize_options[] = {
    {"", FILES, FREE, TO(files), 0, 0, "FILE…", ""},
    {"files-from", TEXT, FREE, TO(files_from), 0, 0, "FILE", "read the files that this one names, a line each"},
    {"out", TEXT, FREE, TO(out), 0, 0, "PREFIX", "for PREFIX_train.bin, PREFIX_val.bin and PREFIX.vocab"},
    {"vocab-size", COUNT, FREE, TO(vocab_size), 512, 65535, "N", "tokens: bytes, merges, end of text (4096)"},
    {"vocab", TEXT, FREE, TO(vocab), 0, 0, "FILE", "use this vocabulary instead of learning one"},
    {"val-fraction", REAL, FREE, TO(val_fraction), 0, 0.99, "F", "share of the text for validation (0.05)"},
    {"separator", TEXT, FREE, TO(separator), 0, 0, "STRING", "documents end at this string"},
    {"split-blank-lines", FLAG, FREE, TO(blank_lines), 0, 0, "", "documents end at blank lines"},
    {"shuffle", COUNT, FREE, TO(shuffle), 0, 9e15, "SEED", "put the documents in this random order first"},
    {"overwrite", FLAG, FREE, TO(overwrite), 0, 0, "", "replace PREFIX.vocab even if it differs"},
    {"decode", FLAG, FREE, TO(decode), 0, 0, "", "print the text of shards"},
    {"help", FLAG, FREE, TO(help), 0, 0, "", "print this list"},
    {0},
};
#undef TO

static int tokenize_given(const char *name) { return find_option(tokenize_options, name)->given; }

static void tokenize_decode(const TokenizeSettings *s) {
    Vocab v;
    int last = -1;
    vocab_load(&v, s->vocab);
    const char *separator = s->blank_lines ? "" : s->separator ? s->separator : "<|endoftext|>";
    const char *between = prefix_path(separator, "\n");
    for (size_t i = 0; i < s->files.n; i++) bpe_decode(&v, s->files.path[i], between, &last, stdout);
}

// All files to read: those on the command line, and then those in the list.
static Files tokenize_files(const TokenizeSettings *s) {
    Files f = {0};
    char *line = NULL;
    size_t room = 0;
    for (size_t i = 0; i < s->files.n; i++) input_add(&f, s->files.path[i]);
    if (!s->files_from) return f;
    FILE *list = strcmp(s->files_from, "-") ? fopen(s->files_from, "r") : stdin;
    if (!list) die("%s: cannot read: %s", s->files_from, strerror(errno));
    while (getline(&line, &room, list) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        if (*line) input_add(&f, prefix_path(line, ""));
    }
    return f;
}

// Split the files into documents. They are parts of one copy of all files, which is mapped: so the text may be
// larger than memory, there may be any number of files, and what happens to them later does not matter.
static void tokenize_read(const TokenizeSettings *s, const Files *files, Texts *t) {
    static const char eot[] = "<|endoftext|>";
    size_t *sizes = alloc_or_die(files->n * sizeof *sizes), total = 0;
    for (size_t i = 0; i < files->n; i++) total += sizes[i] = input_copy(files->path[i], outputs.scratch);
    if (total == 0) die("there is no text in the input; give files that are not empty");
    if (fflush(outputs.scratch)) die("%s: cannot write: %s", outputs.lock, strerror(errno));
    const char *text = mmap(NULL, total, PROT_READ, MAP_PRIVATE, fileno(outputs.scratch), 0), *file = text;
    if (text == MAP_FAILED) die("%s: cannot read: %s", outputs.lock, strerror(errno));
    for (size_t i = 0; i < files->n; file += sizes[i++]) {
        if (s->separator) bpe_split_separator(t, file, sizes[i], s->separator);
        else if (s->blank_lines) bpe_split_blank_lines(t, file, sizes[i]);
        else bpe_add_text(t, file, sizes[i]);
    }
    free(sizes);
    if (t->n == 0) die("there is nothing but separators in the input; give files with text");
    size_t found = count_string(text, total, s->separator ? s->separator : eot);
    if (s->separator && found == 0)
        fprintf(stderr, "%s: --separator %s: is not in the text, so each file is one document\n", program,
                s->separator);
    if (!s->separator && found > 1)
        fprintf(stderr, "%s: %s is %zu times in the text; if documents end there, give --separator '%s'\n",
                program, eot, found, eot);
}

// Write one shard and say what is in it.
static void tokenize_shard(Writer *w, const Encoder *e, const Text *text, size_t n) {
    double start = now_seconds();
    size_t bytes = 0, tokens = bpe_put_shard(w, e, text, n);
    for (size_t i = 0; i < n; i++) bytes += text[i].n;
    printf("%s: %zu bytes, %zu document%s, %zu tokens, %.2f bytes per token (%.1f s)\n", w->path, bytes, n,
           n == 1 ? "" : "s", tokens, (double)bytes / (double)MAX(tokens, 1), now_seconds() - start);
}

static void tokenize_encode(const TokenizeSettings *s) {
    double start = now_seconds();
    Files files = tokenize_files(s); // before there are files of this program that a folder may contain
    Texts t = {0};
    Vocab v;
    Encoder e;
    outputs_open(s->out); // and these before the work begins, so that a bad --out is found at once
    Writer *train = outputs_add("_train.bin"), *val = outputs_add("_val.bin"), *vocab = outputs_add(".vocab");
    if (s->vocab) vocab_load(&v, s->vocab);
    tokenize_read(s, &files, &t);
    if (tokenize_given("shuffle")) bpe_shuffle(&t, s->shuffle);
    size_t n_train = bpe_cut(&t, s->val_fraction);
    if (!s->vocab) bpe_learn(&v, t.text, n_train, s->vocab_size);
    if (!s->overwrite) outputs_keep_vocab(&v, "choose another --out, use it with --vocab, or --overwrite it");
    if (!s->vocab)
        printf("%s: %zu ids: 256 bytes, %zu merges, end of text (%.1f s)\n", vocab->path, v.V, v.V - 257,
               now_seconds() - start);
    if (!s->vocab && v.V < s->vocab_size)
        fprintf(stderr, "%s: --vocab-size %zu: only %zu ids, because no other pair of tokens occurs "
                "twice; ask for fewer or give more text\n", program, s->vocab_size, v.V);
    encoder_make(&e, &v);
    if (!e.has_bytes)
        die("%s: not all bytes are tokens, so some text cannot be encoded; use one learned here", s->vocab);
    if (v.eot < 0) die("%s: has no end-of-text token; use one learned here", s->vocab);
    tokenize_shard(train, &e, t.text, n_train);
    tokenize_shard(val, &e, t.text + n_train, t.n - n_train);
    writer_put(vocab, v.file, v.size);
    if (n_train == t.n && s->val_fraction > 0)
        fprintf(stderr, "%s: %s: no tokens, because there is no place to cut the text; give more text\n",
                program, val->path);
    outputs_commit();
}

static int tokenize_main(int argc, char **argv) {
    static const char *const not_decoding[] = {"files-from", "out", "vocab-size", "val-fraction", "shuffle",
                                               "overwrite"};
    TokenizeSettings s = {.vocab_size = 4096, .val_fraction = 0.05};
    program = "tokenize";
    parse_options(tokenize_options, &s, argc, argv);
    if (s.help) {
        printf("usage: tokenize --out PREFIX FILE…                turn text into token shards\n"
               "       tokenize --decode --vocab FILE SHARD…      print the text of shards\n\n");
        print_options(tokenize_options);
        printf("\nA FILE may be a folder, which means all files in it, or -, which means standard input.\n"
               "Without --separator and --split-blank-lines, each file is one document.\n"
               "Between two documents, --decode prints the --separator (<|endoftext|>) and a line end,\n"
               "or a blank line with --split-blank-lines.\n");
        return 0;
    }
    for (size_t i = 0; s.decode && i < sizeof not_decoding / sizeof *not_decoding; i++)
        if (tokenize_given(not_decoding[i])) die_usage("--%s: is not for --decode; leave it out", not_decoding[i]);
    if (s.files.n == 0 && !s.files_from) die_usage("no input; name one or more files");
    if (s.separator && s.blank_lines) die_usage("--separator: excludes --split-blank-lines; choose one");
    if (s.vocab && tokenize_given("vocab-size")) die_usage("--vocab-size: --vocab has a size; leave one out");
    if (!s.decode && !s.out) die_usage("--out PREFIX: is missing; say where to write");
    if (s.decode && !s.vocab) die_usage("--decode: needs the vocabulary of the shards; give --vocab FILE");
    if (s.decode) tokenize_decode(&s);
    else tokenize_encode(&s);
    return 0;
}

int main(int argc, char **argv) {
    open_streams();
    return close_stdout(tokenize_main(argc, argv));
}
#endif
#endif
