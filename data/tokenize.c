/*
Text to token shards: byte-level BPE, learned and applied.

    data/tokenize --out PREFIX FILE…     writes PREFIX_train.bin, PREFIX_val.bin and PREFIX.vocab
    data/tokenize --decode --vocab PREFIX.vocab PREFIX_val.bin     writes the text to stdout

The text is cut into documents, the tail of them is kept for validation, a vocabulary is learned from the rest
(or --vocab gives one), and every document becomes an end-of-text token and its pieces' tokens. How text is
cut into pieces and how a piece is encoded is in train_optibert.c, for the trainer encodes --fill by the same
rule.
*/
#ifndef TOKENIZE_C
#define TOKENIZE_C
#ifndef OPTIBERT_NO_MAIN
#define OPTIBERT_NO_MAIN
#endif
#include "../train_optibert.c"
#include <sys/mman.h>

// ----------------------------------------------------------------------------
// documents

typedef struct {
    const char *s; // not zero-terminated; points into a mapped file
    size_t n;
} BpeText;

typedef struct {
    BpeText *text; // (n) none of them empty
    size_t n, room;
} BpeTexts;

// Room for one element more in an array of n elements that has `room` of them: the array, or a larger copy of
// it.
void *bpe_grow(void *array, size_t n, size_t *room, size_t element) {
    if (n < *room) return array;
    void *larger = alloc_or_die((*room = 2 * *room + 1024) * element);
    if (n > 0) memcpy(larger, array, n * element);
    free(array);
    return larger;
}

void bpe_add_text(BpeTexts *t, const char *s, size_t n) {
    if (n == 0) return;
    t->text = bpe_grow(t->text, t->n, &t->room, sizeof *t->text);
    t->text[t->n++] = (BpeText){s, n};
}

// Documents stand between separators. A line break right behind one belongs to it, for a separator mostly
// stands on a line of its own, and no document should have to begin with that line's end.
void bpe_split_separator(BpeTexts *t, const char *s, size_t n, const char *separator) {
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

// Documents are runs of lines that are not blank, each with its line end; a line of white space alone is
// blank.
void bpe_split_blank_lines(BpeTexts *t, const char *s, size_t n) {
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

// The bytes of a file, mapped rather than read so that text may be larger than memory. They stay for good.
BpeText bpe_map(const char *path) {
    Reader r;
    reader_open(&r, path);
    if (r.size == 0) return fclose(r.file), (BpeText){"", 0};
    char *s = mmap(NULL, (size_t)r.size, PROT_READ, MAP_PRIVATE, fileno(r.file), 0);
    if (s == MAP_FAILED) die("%s: cannot read: %s", path, strerror(errno));
    fclose(r.file);
    return (BpeText){s, (size_t)r.size};
}

// Of two places around `target` where text of `total` bytes could be cut, the nearer one that leaves between
// half and twice the validation text that was asked for; 0 if neither does.
size_t bpe_nearer(size_t before, size_t after, size_t target, size_t total) {
    size_t want = total - target;
    int before_fits = before > 0 && total - before <= 2 * want, after_fits = 2 * (total - after) >= want;
    if (before_fits && after_fits) return target - before <= after - target ? before : after;
    return before_fits ? before : after_fits ? after : 0;
}

// Choose where validation begins, so that it has about `fraction` of the bytes: between two documents if
// there is a good place (bpe_nearer says what is good), else at a line end inside a document, else between
// two pieces; never inside a UTF-8 sequence. Returns the number of the first validation document, t->n where
// no place will do. A document that is cut becomes two, and so the second half gets an end-of-text token too:
// a shard begins with a document.
size_t bpe_cut(BpeTexts *t, double fraction) {
    size_t total = 0, start = 0, d = 0;
    for (size_t i = 0; i < t->n; i++) total += t->text[i].n;
    size_t target = total - (size_t)(fraction * (double)total + 0.5);
    if (target == total) return t->n;
    while (start + t->text[d].n <= target) start += t->text[d++].n; // document d holds the target
    const char *s = t->text[d].s;
    size_t n = t->text[d].n, at = target - start, before = at, after = at;
    size_t cut = bpe_nearer(start, start + n, target, total);
    if (cut > 0) return cut == start ? d : d + 1;

    while (before > 0 && s[before - 1] != '\n') before--;
    while (after < n && (after == 0 || s[after - 1] != '\n')) after++;
    cut = bpe_nearer(start + before, start + after, target, total);
    if (cut == 0) {
        before = after = 0;
        for (size_t i = 0; i < n && after <= at;) {
            i += piece_length(s + i, n - i);
            if (i < n && ((unsigned char)s[i] & 0xC0) == 0x80) continue; // PIECE_MAX fell inside a letter
            before = after, after = i;
        }
        cut = bpe_nearer(start + before, start + after, target, total);
    }
    if (cut == 0) return t->n;
    bpe_add_text(t, s, n); // room for one more; then those behind d move up
    memmove(&t->text[d + 2], &t->text[d + 1], (t->n - d - 2) * sizeof *t->text);
    t->text[d] = (BpeText){s, cut - start};
    t->text[d + 1] = (BpeText){s + (cut - start), n - (cut - start)};
    return d + 1;
}

// ----------------------------------------------------------------------------
// learning: the different pieces and how often each occurs

#define BPE_DISTINCT_MAX ((size_t)1 << 25) // bytes of different pieces to learn from; takes up to 1 GB

typedef struct {
    const char *s;
    uint32_t n, hash;
    uint64_t count;
} BpeWord;

typedef struct {
    BpeWord *word; // (n) in the order in which they were met
    size_t n, room;
    uint32_t *slot; // (n_slots) number + 1, or 0
    size_t n_slots; // a power of two
    size_t bytes;   // of all different words together
} BpeWords;

uint32_t bpe_hash(const char *s, size_t n) {
    uint64_t x = checksum_add(n, s, n);
    return (uint32_t)(((x ^ x >> 32) * 0x9e3779b97f4a7c15u) >> 32);
}

void bpe_index_words(BpeWords *w, size_t n_slots) {
    free(w->slot);
    w->slot = alloc_or_die(n_slots * sizeof *w->slot);
    w->n_slots = n_slots;
    for (size_t k = 0; k < w->n; k++) {
        size_t i = w->word[k].hash & (n_slots - 1);
        while (w->slot[i] != 0) i = (i + 1) & (n_slots - 1);
        w->slot[i] = (uint32_t)k + 1;
    }
}

// One more occurrence of this piece. Once BPE_DISTINCT_MAX is reached, pieces that were not met before are
// left out.
void bpe_count_word(BpeWords *w, const char *s, size_t n) {
    if (2 * w->n >= w->n_slots) bpe_index_words(w, w->n_slots ? 2 * w->n_slots : 1 << 16);
    uint32_t hash = bpe_hash(s, n);
    size_t i = hash & (w->n_slots - 1);
    for (; w->slot[i] != 0; i = (i + 1) & (w->n_slots - 1)) {
        BpeWord *word = &w->word[w->slot[i] - 1];
        if (word->hash != hash || word->n != n || memcmp(word->s, s, n) != 0) continue;
        word->count++;
        return;
    }
    if (w->bytes + n > BPE_DISTINCT_MAX) return;
    w->word = bpe_grow(w->word, w->n, &w->room, sizeof *w->word);
    w->word[w->n++] = (BpeWord){s, (uint32_t)n, hash, 1};
    w->slot[i] = (uint32_t)w->n;
    w->bytes += n;
}

// ----------------------------------------------------------------------------
// learning: merges

#define BPE_EDGE 65535 // the symbol before, between and behind the words: no token has this id

// All places where one symbol follows another, in a doubly linked list through the places (see BpeLearner).
typedef struct {
    uint32_t key;        // left << 16 | right, plus 1; 0: this slot is free
    uint32_t head, tail; // first and last place, in ascending order; 0: none left
    uint64_t count;      // occurrences in the text: the sum over its places of the counts of their words
} BpePair;

typedef struct {
    uint64_t count; // what the pair's count was when this was pushed: it can only have fallen since
    uint32_t key;
} BpeCandidate;

// All different words stand behind each other in `symbol`, a place for each byte. A token of several bytes
// has its id at its first and its last place, so that both neighbours of a token are found without any links.
typedef struct {
    const Vocab *vocab;
    const BpeWord *words;
    uint16_t *symbol;         // (places)
    uint32_t *word;           // (places) number of the word
    uint32_t *before, *after; // (places) previous and next place in the list of the pair that begins here
    BpePair *pair;            // (n_slots) hash table
    size_t n_slots, used;
    BpeCandidate *heap; // (n_heap) the best one first
    size_t n_heap, heap_room;
    uint32_t *fresh; // (n_fresh) pairs that came into being since they were last pushed
    size_t n_fresh, fresh_room;
} BpeLearner;

// The slot of a pair, or the free slot where it would go.
BpePair *bpe_pair(const BpeLearner *b, uint32_t key) {
    size_t i = (size_t)((key * (uint64_t)0x9e3779b97f4a7c15u) >> 32);
    while (b->pair[i & (b->n_slots - 1)].key != 0 && b->pair[i & (b->n_slots - 1)].key != key) i++;
    return &b->pair[i & (b->n_slots - 1)];
}

// Make a new hash table of the pairs that still occur, at most a quarter full.
void bpe_rehash_pairs(BpeLearner *b) {
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
void bpe_link(BpeLearner *b, uint32_t left, uint32_t right, uint32_t place) {
    if (2 * b->used >= b->n_slots) bpe_rehash_pairs(b);
    uint32_t key = (left << 16 | right) + 1;
    BpePair *p = bpe_pair(b, key);
    if (p->key == 0) p->key = key, b->used++;
    if (p->head == 0) {
        b->fresh = bpe_grow(b->fresh, b->n_fresh, &b->fresh_room, sizeof *b->fresh);
        b->fresh[b->n_fresh++] = key;
        p->head = place;
    } else {
        b->after[p->tail] = place;
    }
    b->before[place] = p->tail, b->after[place] = 0;
    p->tail = place;
    p->count += b->words[b->word[place]].count;
}

// Take a place out of the list of the pair (left, right).
void bpe_unlink(BpeLearner *b, uint32_t left, uint32_t right, uint32_t place) {
    BpePair *p = bpe_pair(b, (left << 16 | right) + 1);
    uint32_t before = b->before[place], after = b->after[place];
    *(before ? &b->after[before] : &p->head) = after;
    *(after ? &b->before[after] : &p->tail) = before;
    p->count -= b->words[b->word[place]].count;
}

// Make one token of the two that stand at `place`. The pairs with their neighbours change too. Joins go from
// left to right, and a pair that contains the new token is born in this very step, so all lists stay in
// ascending order.
void bpe_join(BpeLearner *b, uint32_t place, uint32_t left, uint32_t right, uint32_t joint) {
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

// The order of merges: the more frequent pair first; of equals the one whose left token has the lower id,
// then the right.
int bpe_better(BpeCandidate a, BpeCandidate b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

void bpe_push(BpeLearner *b, BpeCandidate c) {
    b->heap = bpe_grow(b->heap, b->n_heap, &b->heap_room, sizeof *b->heap);
    size_t i = b->n_heap++;
    for (; i > 0 && bpe_better(c, b->heap[(i - 1) / 2]); i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = c;
}

BpeCandidate bpe_pop(BpeLearner *b) {
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

// The best pair that occurs at least twice; its key is 0 if there is none. Pairs in the heap may have lost
// occurrences: such a one goes back with its present count when it comes up, so what is returned is the true
// maximum.
BpeCandidate bpe_best_pair(BpeLearner *b) {
    while (b->n_fresh > 0) {
        uint32_t key = b->fresh[--b->n_fresh];
        uint64_t count = bpe_pair(b, key)->count;
        if (count >= 2) bpe_push(b, (BpeCandidate){count, key});
    }
    while (b->n_heap > 0) {
        BpeCandidate c = bpe_pop(b);
        uint64_t count = bpe_pair(b, c.key)->count;
        if (count == c.count) return c;
        if (count >= 2) bpe_push(b, (BpeCandidate){count, c.key});
    }
    return (BpeCandidate){0, 0};
}

// Lay the words out, a symbol for each byte, and link all pairs.
void bpe_learner_open(BpeLearner *b, const BpeWords *w, const Vocab *v) {
    size_t places = w->bytes + w->n + 1, at = 0;
    *b = (BpeLearner){.vocab = v, .words = w->word};
    b->symbol = alloc_or_die(places * sizeof *b->symbol);
    b->word = alloc_or_die(places * sizeof *b->word);
    b->before = alloc_or_die(places * sizeof *b->before);
    b->after = alloc_or_die(places * sizeof *b->after);
    b->symbol[at++] = BPE_EDGE;
    for (size_t k = 0; k < w->n; k++) {
        for (size_t i = 0; i < w->word[k].n; i++, at++) {
            b->symbol[at] = (unsigned char)w->word[k].s[i];
            b->word[at] = (uint32_t)k;
            if (i > 0) bpe_link(b, b->symbol[at - 1], b->symbol[at], (uint32_t)at - 1);
        }
        b->symbol[at++] = BPE_EDGE;
    }
}

void bpe_learner_close(BpeLearner *b) {
    free(b->symbol), free(b->word), free(b->before), free(b->after);
    free(b->pair), free(b->heap), free(b->fresh);
}

// Give the string s of n bytes the next id.
void bpe_add_token(Vocab *v, const char *s, size_t n) {
    v->length[v->V] = (unsigned char)n;
    v->string[v->V] = alloc_or_die(n);
    memcpy(v->string[v->V++], s, n);
}

// Learn a vocabulary of V ids from n documents: the 256 bytes, merges, end of text. It is smaller where the
// text has too few pairs that occur twice. A joint string of more than 255 bytes is no merge: its length has
// one byte in the file. No string is learned twice, for between two token boundaries the same bytes are
// always joined in the same way; so encode_piece(), which goes by strings, joins just what was joined here.
void bpe_learn(Vocab *v, const BpeText *text, size_t n, size_t V) {
    static const char eot[] = "<|endoftext|>";
    BpeWords words = {0};
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0, step; at < text[i].n; at += step) {
            step = piece_length(text[i].s + at, text[i].n - at);
            if (step > 1) bpe_count_word(&words, text[i].s + at, step);
        }
    *v = (Vocab){.eot = -1};
    v->length = alloc_or_die(V);
    v->string = alloc_or_die(V * sizeof *v->string);
    for (int byte = 0; byte < 256; byte++) bpe_add_token(v, (char[]){(char)byte}, 1);

    BpeLearner b;
    bpe_learner_open(&b, &words, v);
    while (v->V + 1 < V) {
        BpeCandidate c = words.n ? bpe_best_pair(&b) : (BpeCandidate){0, 0};
        if (c.key == 0) break;
        uint32_t left = (c.key - 1) >> 16, right = (c.key - 1) & 65535, place;
        size_t first = v->length[left], both = first + v->length[right];
        char joint[2 * 255];
        memcpy(joint, v->string[left], first);
        memcpy(joint + first, v->string[right], both - first);
        if (both > 255) continue;
        bpe_add_token(v, joint, both);
        while ((place = bpe_pair(&b, c.key)->head) != 0) bpe_join(&b, place, left, right, (uint32_t)v->V - 1);
    }
    bpe_learner_close(&b);
    free(words.word), free(words.slot);
    v->eot = (int)v->V;
    bpe_add_token(v, eot, sizeof eot - 1);
    vocab_index(v);
}

// ----------------------------------------------------------------------------
// writing

// llm.c's tokenizer file, version 2.
void bpe_put_vocab(Writer *w, const Vocab *v) {
    int32_t header[HEADER] = {VOCAB_MAGIC, 2, (int32_t)v->V, v->eot};
    writer_put(w, header, sizeof header);
    for (size_t id = 0; id < v->V; id++) {
        writer_put(w, &v->length[id], 1);
        writer_put(w, v->string[id], v->length[id]);
    }
}

// Encoded pieces are kept, for most of a text is a few thousand words: one for each slot of a table, the last
// that was met. Pieces or results that are longer than a slot (64 bytes) are encoded each time.
#define BPE_CACHE_BITS 16
typedef struct {
    unsigned char n, count; // of s and of ids; n = 0: empty
    char s[24];
    uint16_t ids[19];
} BpeCached;

// encode_piece() with a memory.
size_t bpe_encode_cached(const Vocab *v, BpeCached *cache, const char *s, size_t n, uint16_t *ids) {
    if (n > sizeof cache->s) return encode_piece(v, s, n, ids);
    BpeCached *c = &cache[bpe_hash(s, n) >> (32 - BPE_CACHE_BITS)];
    if (c->n == n && memcmp(c->s, s, n) == 0) {
        for (size_t i = 0; i < c->count; i++) ids[i] = c->ids[i];
        return c->count;
    }
    size_t count = encode_piece(v, s, n, ids);
    if (count > sizeof c->ids / sizeof *c->ids) return count;
    c->n = (unsigned char)n, c->count = (unsigned char)count;
    memcpy(c->s, s, n);
    memcpy(c->ids, ids, count * sizeof *ids);
    return count;
}

#define BPE_READY 65536 // tokens that are written at once

// Write n documents as a shard. Its header goes first, so it is written twice: the number of tokens is known
// at the end. Returns that number.
size_t bpe_put_shard(Writer *w, const Vocab *v, const BpeText *text, size_t n) {
    int32_t header[HEADER] = {SHARD_MAGIC, 1, 0, (int32_t)v->V, v->eot + 1};
    BpeCached *cache = alloc_or_die(sizeof *cache << BPE_CACHE_BITS);
    uint16_t *ids = alloc_or_die((BPE_READY + 1 + PIECE_MAX) * sizeof *ids);
    size_t tokens = 0, ready = 0;
    writer_put(w, header, sizeof header);
    for (size_t i = 0; i < n; i++) {
        ids[ready++] = (uint16_t)v->eot;
        for (size_t at = 0, step; at < text[i].n; at += step) {
            step = piece_length(text[i].s + at, text[i].n - at);
            ready += bpe_encode_cached(v, cache, text[i].s + at, step, ids + ready);
            if (ready < BPE_READY && (at + step < text[i].n || i + 1 < n)) continue;
            writer_put(w, ids, ready * sizeof *ids);
            tokens += ready, ready = 0;
            if (tokens > INT32_MAX)
                die("%s: more than 2147483647 tokens, which is as far as a shard's header can count: "
                    "tokenize the files in several runs, with --vocab from the first", w->path);
        }
    }
    header[2] = (int32_t)tokens;
    if (fseek(w->file, 0, SEEK_SET)) die("%s: cannot write: %s", w->path, strerror(errno));
    writer_put(w, header, sizeof header);
    free(ids), free(cache);
    return tokens;
}

// Write the text of a shard to a file: exactly the bytes of each document, and `between` between two of them.
// *last is the last byte that was written, -1 before the first document. Tokens before the first end of text
// (of a document that began in another shard) are text like any other.
void bpe_decode(const Vocab *v, const char *shard, const char *between, int *last, FILE *out) {
    Reader r;
    size_t V;
    int eot;
    size_t tokens = shard_header(shard, &V, &eot);
    if (V != v->V || eot != v->eot)
        die("%s: made with another vocabulary (%zu ids, end of text %d) than --vocab (%zu, %d): give its own",
            shard, V, eot, v->V, v->eot);
    reader_open(&r, shard);
    if (fseek(r.file, HEADER * sizeof(int32_t), SEEK_SET)) die("%s: cannot read: %s", shard, strerror(errno));
    while (tokens > 0) {
        uint16_t ids[4096];
        size_t n = MIN(tokens, sizeof ids / sizeof *ids);
        reader_get(&r, ids, n * sizeof *ids);
        for (size_t i = 0; i < n; i++) {
            if (ids[i] >= V) die("%s: token %u is not below %zu ids: make it again", shard, ids[i], V);
            const char *string = v->string[ids[i]];
            size_t length = v->length[ids[i]];
            if (ids[i] != eot) {
                fwrite(string, length, 1, out);
                *last = (unsigned char)string[length - 1];
            } else if (*last >= 0) {
                if (between[0] == '\n' && *last != '\n') fputc('\n', out); // or the line would not be blank
                fputs(between, out);
            }
        }
        tokens -= n;
    }
    fclose(r.file);
}

// ----------------------------------------------------------------------------
// the program
#ifndef TOKENIZE_NO_MAIN

static const char tokenize_help[] =
    "Text to token shards, by byte-level BPE.\n"
    "\n"
    "  tokenize --out PREFIX FILE...   writes PREFIX_train.bin, PREFIX_val.bin and PREFIX.vocab\n"
    "  tokenize --decode --vocab FILE SHARD...   writes the text of shards to stdout\n"
    "\n"
    "  --out PREFIX         where the three files go\n"
    "  --vocab-size N       ids in all: 256 bytes, merges, end of text; 512 to 65535 (default 4096)\n"
    "  --vocab FILE         use this vocabulary (PREFIX.vocab, gpt2_tokenizer.bin) and learn none\n"
    "  --val-fraction F     about this part of the text, its tail, is for validation (default 0.05)\n"
    "  --separator STRING   documents end at this string, such as '<|endoftext|>'\n"
    "  --split-blank-lines  documents end at blank lines; without either, each file is one document\n"
    "  --decode             the way back; between documents stands the --separator and a line end, or a\n"
    "                       blank line with --split-blank-lines, else <|endoftext|> and a line end\n"
    "  --help               this text\n";

typedef struct {
    const char *out, *vocab, *separator, *vocab_size, *val_fraction; // as given, or NULL
    int blank_lines, decode;
    const char **files; // (n_files)
    size_t n_files;
} TokenizeOptions;

static Writer tokenize_outputs[3]; // train, val, vocab

// However the program ends, it leaves no temporary files.
static void tokenize_clean_up(void) {
    for (int i = 0; i < 3; i++)
        if (tokenize_outputs[i].temporary[0]) unlink(tokenize_outputs[i].temporary);
}

static void tokenize_interrupted(int number) {
    tokenize_clean_up();
    signal(number, SIG_DFL);
    raise(number);
}

// The value of an option, which has to be a number from low to high.
static double tokenize_number(const char *name, const char *text, double low, double high) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !(x >= low && x <= high))
        die_usage("%s %s: give a number from %g to %g", name, text, low, high);
    return x;
}

static void tokenize_options(TokenizeOptions *o, int argc, char **argv) {
    *o = (TokenizeOptions){.files = alloc_or_die((size_t)argc * sizeof *o->files)};
    struct { const char *name, **value; } with_value[] = {
        {"--out", &o->out}, {"--vocab", &o->vocab}, {"--separator", &o->separator},
        {"--vocab-size", &o->vocab_size}, {"--val-fraction", &o->val_fraction}};
    size_t n_with_value = sizeof with_value / sizeof *with_value;
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        while (k < n_with_value && strcmp(argv[i], with_value[k].name)) k++;
        if (k < n_with_value) {
            if (++i == argc || argv[i][0] == 0) die_usage("%s: a value is missing", with_value[k].name);
            *with_value[k].value = argv[i];
        } else if (!strcmp(argv[i], "--split-blank-lines")) {
            o->blank_lines = 1;
        } else if (!strcmp(argv[i], "--decode")) {
            o->decode = 1;
        } else if (!strcmp(argv[i], "--help")) {
            fputs(tokenize_help, stdout);
            exit(0);
        } else if (argv[i][0] == '-') {
            die_usage("%s: unknown option", argv[i]);
        } else {
            o->files[o->n_files++] = argv[i];
        }
    }
    if (o->n_files == 0) die_usage("no input: name one or more files");
    if (o->separator && o->blank_lines) die_usage("--separator and --split-blank-lines: choose one");
    if (o->vocab && o->vocab_size) die_usage("--vocab-size: --vocab brings its own size: leave one out");
    if (!o->decode && !o->out) die_usage("--out: say where to write: --out PREFIX");
    if (o->decode && !o->vocab) die_usage("--decode: give the shards' vocabulary: --vocab FILE");
    if (o->decode && o->out) die_usage("--out: --decode writes to stdout: leave it out");
    if (o->decode && o->val_fraction) die_usage("--val-fraction: --decode writes whole shards: leave it out");
}

// Load --vocab, which has to be able to encode any text.
static void tokenize_load_vocab(Vocab *v, const char *path) {
    vocab_load(v, path);
    if (!v->has_bytes)
        die("%s: some bytes are no tokens of it, so not all text fits: use one learned here", path);
    if (v->eot < 0) die("%s: it has no end of text to begin documents with: use one learned here", path);
}

static void tokenize_decode(const TokenizeOptions *o) {
    Vocab v;
    int last = -1;
    vocab_load(&v, o->vocab);
    const char *separator = o->blank_lines ? "" : o->separator ? o->separator : "<|endoftext|>";
    char *between = alloc_or_die(strlen(separator) + 2);
    strcat(strcpy(between, separator), "\n");
    for (size_t i = 0; i < o->n_files; i++) bpe_decode(&v, o->files[i], between, &last, stdout);
    if (fflush(stdout) || ferror(stdout)) die("stdout: cannot write: %s", strerror(errno));
}

// Write one shard and say what is in it.
static void tokenize_shard(Writer *w, const Vocab *v, const BpeText *text, size_t n) {
    double start = now_seconds();
    size_t bytes = 0, tokens = bpe_put_shard(w, v, text, n);
    for (size_t i = 0; i < n; i++) bytes += text[i].n;
    printf("%s: %zu bytes, %zu document%s, %zu tokens, %.2f bytes a token (%.1f s)\n", w->path, bytes, n,
           n == 1 ? "" : "s", tokens, (double)bytes / (double)MAX(tokens, 1), now_seconds() - start);
}

static void tokenize_encode(const TokenizeOptions *o) {
    static const char *const suffix[3] = {"_train.bin", "_val.bin", ".vocab"};
    size_t V = 4096;
    double fraction = 0.05, start = now_seconds();
    if (o->vocab_size) V = (size_t)tokenize_number("--vocab-size", o->vocab_size, 512, 65535);
    if (o->val_fraction) fraction = tokenize_number("--val-fraction", o->val_fraction, 0, 0.99);

    BpeTexts t = {0};
    Vocab v;
    if (o->vocab) tokenize_load_vocab(&v, o->vocab);
    for (size_t i = 0; i < o->n_files; i++) {
        BpeText file = bpe_map(o->files[i]);
        if (o->separator) bpe_split_separator(&t, file.s, file.n, o->separator);
        else if (o->blank_lines) bpe_split_blank_lines(&t, file.s, file.n);
        else bpe_add_text(&t, file.s, file.n);
    }
    if (t.n == 0) die("%s: no text here%s: give a file that is not empty", o->files[0],
                      o->n_files > 1 ? ", and none in the others" : "");

    for (int i = 0; i < 3; i++) { // before the work begins, so that a wrong --out is found at once
        char *path = alloc_or_die(strlen(o->out) + 16);
        writer_open(&tokenize_outputs[i], strcat(strcpy(path, o->out), suffix[i]));
        free(path);
    }
    size_t n_train = bpe_cut(&t, fraction);
    if (!o->vocab) {
        bpe_learn(&v, t.text, n_train, V);
        printf("%s: %zu ids: 256 bytes, %zu merges, end of text (%.1f s)\n", tokenize_outputs[2].path, v.V,
               v.V - 257, now_seconds() - start);
        if (v.V < V)
            fprintf(stderr, "%s: --vocab-size %zu: only %zu ids learned, for no other pair occurs twice: "
                    "ask for less or give more text\n", program, V, v.V);
    }
    tokenize_shard(&tokenize_outputs[0], &v, t.text, n_train);
    tokenize_shard(&tokenize_outputs[1], &v, t.text + n_train, t.n - n_train);
    bpe_put_vocab(&tokenize_outputs[2], &v);
    if (n_train == t.n && fraction > 0)
        fprintf(stderr, "%s: %s: no tokens, for there is no place to cut the text: give more text\n", program,
                tokenize_outputs[1].path);
    for (int i = 0; i < 3; i++) writer_close(&tokenize_outputs[i]);
}

int main(int argc, char **argv) {
    TokenizeOptions o;
    program = "tokenize";
    tokenize_options(&o, argc, argv);
    atexit(tokenize_clean_up);
    signal(SIGINT, tokenize_interrupted);
    signal(SIGTERM, tokenize_interrupted);
    if (o.decode) tokenize_decode(&o);
    else tokenize_encode(&o);
    return 0;
}
#endif
#endif
