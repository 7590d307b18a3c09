# make            the trainer, dev/eval to ask what it learned, and the village's data to train it on
# make test       build everything and run the tests
# make check      the tests and the slow ones; also for any CPU of this kind, without OpenMP, and under sanitizers
# make tools      everything in data/ and dev/
# make bench      measure this machine, the matmuls, and training steps
# make clean
#
# CC=clang        another compiler        PORTABLE=1  a binary to carry elsewhere, without this CPU's own instructions
# OPENMP=no       build without OpenMP    (Works with GNU make 3.81, which macOS has, and 4.)

CFLAGS ?= -O3
# -std=gnu11, not c11: strict mode turns multiply-add contraction off. -fno-math-errno lets sqrtf be one instruction,
# and without -fno-trapping-math gcc computes exp_fast by vectors only for AVX-512. Arithmetic stays as it is written.
FLAGS := -std=gnu11 -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wall -Wextra
LIBS  := -lm

# Does a program with these flags compile and start? $(1) says which: one that uses OpenMP, one that does so without
# libgomp.so, or any. (Status 126: it is for another machine, so cross-compiling may go on.)
any    := int main(void) { return 0; }
openmp := int omp_get_max_threads(void); int main(void) { return omp_get_max_threads() < 1; }
static := int omp_get_max_threads(void); int system(const char *); int main(void) \
          { return omp_get_max_threads() < 1 || !system("grep -q libgomp[.]so /proc/$$PPID/maps"); }
try = $(shell p=./.probe$$$$; echo '$($(1))' > $$p.c; $(CC) $$p.c -o $$p $(2) >/dev/null 2>&1 && \
      { $$p >/dev/null 2>&1; s=$$?; [ $$s = 0 ] || [ $$s = 126 ]; } && echo yes; rm -f $$p $$p.c)

ifneq ($(PORTABLE),1)
  ifeq ($(call try,any,-march=native),yes)
    FLAGS += -march=native
  else ifeq ($(call try,any,-mcpu=native),yes)
    FLAGS += -mcpu=native
  endif
endif

# gcc's OpenMP library is linked statically if possible: see before_openmp() in train_optibert.c. (clang has its own.)
ifneq ($(OPENMP),no)
  BREW := $(shell brew --prefix libomp 2>/dev/null)
  STATIC := $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),-l-none-,-Wl,-Bstatic -lgomp -Wl,-Bdynamic,--as-needed)
  ifeq ($(call try,static,-fopenmp $(STATIC)),yes)
    FLAGS += -fopenmp
    LIBS  += $(STATIC)
    HAVE_OPENMP := yes
  else ifeq ($(call try,openmp,-fopenmp),yes)
    FLAGS += -fopenmp
    HAVE_OPENMP := yes
  else ifeq ($(call try,openmp,-Xpreprocessor -fopenmp -I$(BREW)/include -L$(BREW)/lib -lomp),yes)
    FLAGS += -Xpreprocessor -fopenmp -I$(BREW)/include
    LIBS  += -L$(BREW)/lib -lomp
    HAVE_OPENMP := yes
  endif
endif
ifneq ($(HAVE_OPENMP),yes)
  FLAGS += -Wno-unknown-pragmas
  ifeq ($(call try,any,-fopenmp-simd),yes)
    FLAGS += -fopenmp-simd
  endif
  $(info built without OpenMP: one core will be used. Install libgomp (with gcc), libomp-dev, or `brew install libomp`.)
endif

BUILD = $(CC) $(CPPFLAGS) $(FLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIBS)
TESTS := test_optibert data/test dev/test
TOOLS := $(filter-out $(TESTS) dev/points dev/draw,$(patsubst %.c,%,$(wildcard data/*.c dev/*.c)))

.PHONY: all tools test check bench clean FORCE
all: train_optibert dev/eval data/village_train.bin
tools: all $(TOOLS)

train_optibert: train_optibert.c .flags
	$(BUILD)
$(TOOLS): %: %.c train_optibert.c .flags
	$(BUILD)
dev/eval dev/export data/village: data/tokenize.c
dev/sweep dev/fit dev/plot dev/fuzz: dev/points.c
dev/plot dev/fuzz: dev/fit.c
dev/plot: dev/draw.c
dev/fuzz: dev/eval.c data/tokenize.c
test_optibert: test_optibert.c train_optibert.c .flags
	$(BUILD)
data/test: data/test.c data/village.c data/tokenize.c test_optibert.c train_optibert.c .flags
	$(BUILD)
dev/test: dev/test.c dev/draw.c dev/eval.c dev/export.c dev/fit.c dev/plot.c dev/points.c dev/sweep.c \
          data/tokenize.c test_optibert.c train_optibert.c .flags
	$(BUILD)

data/village_train.bin: data/village
	data/village --out data/village

# The three programs run at the same time, as members of a pipeline do. Nothing goes through it: they print to file
# descriptor 3. Each ends with a line "N passed, M failed"; here it becomes one for all.
test: all tools $(TESTS)
	@{ $(foreach t,$(TESTS),{ ./$t || echo "$t: failed"; } >&3 |) :; } 3>&1 | awk \
	 '/^[0-9]+ passed, [0-9]+ failed$$/ { passed += $$1; failed += $$3; ended++; next } { print; fflush() } \
	  END { failed += 3 - ended; printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }'

bench: dev/bench
	dev/bench

check:
	OPTIBERT_SLOW=1 $(MAKE) -j4 test
	$(MAKE) -j4 PORTABLE=1 test
	$(MAKE) -j4 OPENMP=no test
	ASAN_OPTIONS=detect_leaks=0 $(MAKE) -j4 CFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover' test

# Everything is built again when the compiler or its flags change.
.flags: FORCE
	@echo '$(CC) $(CPPFLAGS) $(FLAGS) $(CFLAGS) $(LDFLAGS) $(LIBS)' | cmp -s - $@ || \
	 echo '$(CC) $(CPPFLAGS) $(FLAGS) $(CFLAGS) $(LDFLAGS) $(LIBS)' > $@

clean:
	rm -f train_optibert $(TESTS) $(TOOLS) .flags data/village_train.bin data/village_val.bin \
	      data/village.vocab data/village_val.floor
