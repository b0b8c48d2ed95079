# unlearn: build, test, install. `make help` lists the targets.
VERSION   = 0.2.0
CC        = mpicc
PRECISION = float
BLAS      = openblas
ONEDNN    = yes
OPT       = -O3 -march=native -fno-math-errno -fno-trapping-math
CFLAGS    = $(OPT) -g
SANITIZE  =
SHARED    = ../shared
PREFIX    = /usr/local
PYTHON    = python3
VENV      = .venv
unexport CDPATH # with which cd prints and goes elsewhere

WARN      = -Wall -Wextra -Wno-unused-parameter -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-psabi
ifeq ($(SANITIZE),1)
  VARIANT = -sanitize
  SAN     = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
B         = build/$(PRECISION)$(VARIANT)
PROGRAM   = $(if $(filter double,$(PRECISION)),unlearn-double,unlearn)
EXE       = $(if $(VARIANT),$B/)$(PROGRAM)
OBJ       = $(patsubst %.c,$B/%.o,$(sort $(wildcard src/*/*.c)))
FIXED     = $(if $(VARIANT),$B/tests/sanitize.o)
TESTS     = $(patsubst %.c,$B/%,$(sort $(wildcard tests/test_*.c)))

# ------------------------------------------------------------------------------------------------------- libraries
# Asked for only by goals that compile, so that `make deps`, `help` and `clean` work on a bare machine; the goals that
# install first call make once more.
ASK_NOT   = deps others venv transformers lint analyse soak test test-faults demo smollm2 docs dist help clean
ifneq ($(filter-out $(ASK_NOT),$(or $(MAKECMDGOALS),all)),)
  ifeq ($(filter double float,$(PRECISION)),)
    $(error PRECISION=$(PRECISION): must be float or double)
  endif
  ifeq ($(shell command -v $(firstword $(CC))),)
    $(error $(firstword $(CC)) is not installed: run `make deps`, or see INSTALL)
  endif
  ifeq ($(shell command -v pkg-config),)
    $(error pkg-config is not installed: run `make deps`, or see INSTALL)
  endif
  # hdf5 and the BLAS by hand where pkg-config does not know them: HDF5_CFLAGS= HDF5_LIBS= BLAS_CFLAGS= BLAS_LIBS=
  PKG      := yaml-0.1 jansson libpcre2-8 libutf8proc libxxhash zlib
  # The HDF5 of the MPI that CC belongs to, or one that names no MPI: with another's, two MPIs would be in one program.
  ifndef HDF5_LIBS
    MPI     := $(firstword $(shell $(CC) -include mpi.h -E -dM -xc /dev/null 2>/dev/null | \
                 sed -n 's/^.define OPEN_MPI .*/openmpi/p; s/^.define MPICH_NUMVERSION .*/mpich/p'))
    FOREIGN := $(or $(filter-out $(MPI),openmpi mpich),none)
    HDF5_PC := $(firstword $(foreach p,hdf5-$(MPI) hdf5 hdf5-serial,$(shell pkg-config --exists $p && \
                 { pkg-config --cflags --libs $p | grep -q $(FOREIGN:%=-e %) || echo $p; })))
    ifeq ($(HDF5_PC),)
      $(error pkg-config finds no HDF5 for the MPI of $(firstword $(CC)) $(MPI:%=(%, in Debian libhdf5-%-dev)): see INSTALL)
    endif
    PKG += $(HDF5_PC)
  endif
  # Each BLAS with its own cblas.h: where several are installed, the plain name is that of whichever comes first.
  ARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
  ifndef BLAS_LIBS
    BLAS_PC := $(if $(filter mkl,$(BLAS)),mkl-dynamic-lp64-gomp,$(BLAS))
    ifeq ($(BLAS)$(shell pkg-config --exists $(BLAS_PC) && echo known),blis)
      BLAS_LIBS = -lblis
      BLAS_CFLAGS = $(addprefix -isystem,$(dir $(realpath $(firstword $(wildcard /usr/include/$(ARCH)/blis.h /usr/include/blis/blis.h)))))
    else
      PKG += $(BLAS_PC)
    endif
    ifneq ($(filter blas blas-netlib,$(BLAS)),)
      CBLAS_H := $(notdir $(firstword $(wildcard /usr/include/$(ARCH)/cblas-netlib.h /usr/include/cblas-netlib.h)))
    endif
  endif
  ifeq ($(BLAS),mkl)
    CBLAS_H := mkl_cblas.h
  endif
  # oneDNN where it is found (ONEDNN=no: not even then); by hand: ONEDNN_CFLAGS= ONEDNN_LIBS=. Only of use to floats.
  ifeq ($(PRECISION)$(filter no,$(ONEDNN)),float)
    ifndef ONEDNN_LIBS
      ONEDNN_LIBS := $(shell echo 'int main(void) { return !dnnl_version(); }' | $(CC) $(CPPFLAGS) $(ONEDNN_CFLAGS) \
        -include oneapi/dnnl/dnnl.h -xc - $(LDFLAGS) -ldnnl -o /dev/null 2>/dev/null && echo -ldnnl)
    endif
  endif
  LACK     := $(shell for p in $(PKG); do pkg-config --exists $$p || echo $$p; done)
  ifneq ($(LACK),)
    $(error pkg-config does not find $(LACK): run `make deps`, or see INSTALL)
  endif
  INC      := -Iinclude $(CBLAS_H:%=-I$B/blas) $(HDF5_CFLAGS) $(BLAS_CFLAGS) $(shell pkg-config --cflags $(PKG)) \
              $(if $(strip $(ONEDNN_LIBS)),-DONEDNN $(ONEDNN_CFLAGS))
  LIBS     := $(HDF5_LIBS) $(BLAS_LIBS) $(ONEDNN_LIBS) $(shell pkg-config --libs $(PKG)) -lhdf5_hl -lm
endif
V         =
Q         = $(if $(V),,@)
SAY       = $(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,echo)
COMPILE   = $(CC) -std=gnu11 $(WARN) -fopenmp $(INC) -DREAL=$(PRECISION) -DREAL_$(PRECISION) $(SAN) $(CPPFLAGS) $(CFLAGS)
LINK      = $(CC) -fopenmp $(SAN) $(CFLAGS) $(LDFLAGS)

# ----------------------------------------------------------------------------------------------------------- build
all: $(EXE)                     # the program of one precision
$(EXE): $B/src/main.o $(FIXED) $B/rooms.a
	@$(SAY) 'link $@'
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$B/%.o: %.c $B/flags
	@$(SAY) '$(PRECISION)$(VARIANT) $<'; mkdir -p $(@D)
	$(Q)$(COMPILE) $(EXTRA) -MMD -MP -c -o $@ $<
$B/rooms.a: $(OBJ)
	@rm -f $@; $(AR) rcs $@ $^
$B/tests/%: $B/tests/%.o $(FIXED) $B/rooms.a
	@$(SAY) 'link $@'
	$(Q)$(LINK) -o $@ $^ $(LIBS) $(CMOCKA)
$(TESTS): CMOCKA = -lcmocka
tests: $(TESTS) $B/tests/eval_lines build/faults_shim.so
build/faults_shim.so: tests/faults_shim.c # preloaded into the program: the n-th call fails
	@$(SAY) 'link $@'
	@mkdir -p build
	$(Q)$(CC) -std=gnu11 $(WARN) -O1 -g -shared -fPIC -o $@ $< -ldl -lpthread
objects: $B/src/main.o $(OBJ) $(TESTS:%=%.o) $(patsubst %.c,$B/%.o,$(wildcard tests/fuzz_*.c)) $B/tests/bench.o \
         $B/tests/bench_generate.o $B/tests/eval_lines.o

# Written anew only when it changes: other flags rebuild everything, another commit only what names it.
KEEP_NEW  = mkdir -p $(@D) && cat > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }
$B/flags: always
	@echo '$(COMPILE) $(BLAS)' | { $(KEEP_NEW); }
	@$(if $(CBLAS_H),mkdir -p $B/blas && echo '#include <$(CBLAS_H)>' | cmp -s - $B/blas/cblas.h || \
	  echo '#include <$(CBLAS_H)>' > $B/blas/cblas.h)
$B/version.h: always
	@{ echo '#define UNLEARN_VERSION "$(VERSION)"'; \
	   echo "#define UNLEARN_COMMIT \"`test -e .git && git describe --always --dirty 2>/dev/null || cat .commit 2>/dev/null || \
	                                   echo unknown`\""; \
	 } | { $(KEEP_NEW); }
VERSIONED := $(patsubst %.c,$B/%.o,$(shell grep -l 'UNLEARN_COMMIT\|UNLEARN_VERSION' src/*.c src/*/*.c 2>/dev/null))
$(VERSIONED): $B/version.h
$(VERSIONED): EXTRA = -include $B/version.h
-include $(wildcard $B/src/*.d $B/src/*/*.d $B/tests/*.d)

# ----------------------------------------------------------------------------------------- what a bare machine needs
DEBIAN    = build-essential pkg-config openmpi-bin libopenmpi-dev libopenblas-dev libhdf5-openmpi-dev libyaml-dev \
            libjansson-dev libpcre2-dev libutf8proc-dev librandom123-dev libxxhash-dev zlib1g-dev python3 python3-venv \
            $(if $(filter x86_64,$(shell uname -m)),libdnnl-dev)
DEBIAN_OTHERS = mpich libmpich-dev libhdf5-mpich-dev libblis-dev libblas-dev # for tests of builds with these
DEBIAN_TEST = libcmocka-dev valgrind git            # beside those, for tests
DEBIAN_LINT = clang clang-format libomp-dev shellcheck # and for the lint
APT_LOG   = build/apt.log
# Percents on the screen from apt's own status lines, all else into a file; the exit status is apt's.
APT       = { $$as apt-get update -q && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
            --no-install-recommends -o APT::Status-Fd=3 $$lack; }
PERCENT   = awk -F: '$$1 == "pmstatus" { p = int($$3 / 20) * 20; if (p > was) { print "make deps: " p " %"; fflush(); was = p } }'
deps:                           # installs Debian's packages to build and run; elsewhere says what to do
	@if ! command -v apt-get >/dev/null; then \
	   echo 'make deps: this is no Debian or Ubuntu: INSTALL names the packages of other systems'; exit 0; fi; \
	 lack=; for p in $(DEBIAN); do \
	   dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || lack="$$lack $$p"; done; \
	 test -n "$$lack" || exit 0; \
	 if [ `id -u` = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as=sudo; else \
	   echo "make deps: not root and no sudo: have somebody run  apt-get install$$lack"; exit 1; fi; \
	 echo "make deps: installing$$lack"; mkdir -p build; \
	 st=`{ { { $(APT) 3>&1 >&5 2>&5; echo $$? >&4; } | $(PERCENT) >&2; } 4>&1; } 5>$(APT_LOG)`; \
	 test "$$st" = 0 || { tail -n 5 $(APT_LOG); echo "make deps: apt-get failed; all of its output: $(APT_LOG)"; exit 1; }
others:                         # another MPI and other BLAS libraries, for tests/builds_test.sh
	@$(AGAIN) deps DEBIAN='$(DEBIAN_OTHERS)'
venv: $(VENV)/ready             # Python's packages for the end-to-end tests
$(VENV)/ready: tests/requirements.txt
	$(PYTHON) -m venv $(VENV) && $(VENV)/bin/pip install -q -r $< && touch $@
transformers: $(VENV)/ready     # the large ones (about 5 GB): tests then load the exported models with Hugging Face
	$(VENV)/bin/python -c 'import torch, transformers, accelerate' 2>/dev/null || $(VENV)/bin/pip install -q torch transformers accelerate

# ----------------------------------------------------------------------------------------------------- test and lint
AGAIN     = $(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
PRECISIONS = $(if $(VARIANT),float,float double)
ONLY      =
test:                           # everything a bare machine needs, then all tests; ONLY="name ..." for some of them
	@$(AGAIN) deps DEBIAN='$(DEBIAN) $(DEBIAN_TEST)' || echo 'make test: going on with what is installed'
	@for p in $(PRECISIONS); do $(AGAIN) PRECISION=$$p all tests || exit 1; done
	@$(AGAIN) venv || echo 'make test: no Python packages: the end-to-end tests are skipped'
	@SHARED='$(SHARED)' VENV='$(VENV)' VARIANT='$(VARIANT)' PRECISIONS='$(PRECISIONS)' tests/run.sh $(ONLY)

test-faults:                    # kills, broken disks, damaged files, hostile inputs: all of them; an hour or less
	@for p in $(PRECISIONS); do $(AGAIN) PRECISION=$$p all tests || exit 1; done
	@$(AGAIN) venv
	@. tests/env.sh; failed=0; for t in tests/faults.py tests/hostile.py; do test ! -e $$t || \
	   SHARED='$(SHARED)' VENV='$(VENV)' VARIANT='$(VARIANT)' PRECISIONS='$(PRECISIONS)' $(VENV)/bin/python $$t --all || failed=1; \
	 done; exit $$failed

FORMATTED = $(wildcard src/*.c src/*/*.c include/*/*.h tests/*.c tests/*.h)
lint:                           # format, rooms, scripts, and no warning of gcc or clang in either precision
	@$(AGAIN) deps DEBIAN='$(DEBIAN) $(DEBIAN_TEST) $(DEBIAN_LINT)' || echo 'make lint: going on with what is installed'
	clang-format --dry-run -Werror $(FORMATTED)
	sh tests/lint_rooms.sh
	@for f in .ci/run tests/*.sh docs/*.sh $(wildcard jobs/*); do case `head -n 1 $$f` in \
	   '#!'*bash*) bash -n $$f ;; '#!'*sh*) sh -n $$f ;; esac || exit 1; done
	@! command -v shellcheck >/dev/null || shellcheck -x jobs/*.sh inputs/paper/*.sh docs/*.sh
	@$(PYTHON) -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' $(wildcard tests/*.py docs/*.py analysis/*.py analysis/*/*.py)
	@for cc in gcc clang; do for p in float double; do echo "warnings of $$cc, $$p"; \
	   OMPI_CC=$$cc MPICH_CC=$$cc $(AGAIN) -s PRECISION=$$p B=build/lint-$$cc-$$p CFLAGS='-O1 -Werror -Wno-pass-failed' objects || exit 1; \
	 done; done

# --------------------------------------------------------------------------------------------------------- analysers
DEBIAN_ANALYSE = cppcheck clang-tidy                # beside those of the lint
analyse:                        # analysers of gcc and clang, clang-tidy, cppcheck, threads, valgrind: fails on any finding
	@$(AGAIN) deps DEBIAN='$(DEBIAN) $(DEBIAN_TEST) $(DEBIAN_LINT) $(DEBIAN_ANALYSE)' || echo 'make analyse: going on with what is installed'
	@MAKE='$(AGAIN)' SHARED='$(SHARED)' sh tests/analyse.sh $(ONLY)
AS_COMPILED = -std=gnu11 -fopenmp -D_GNU_SOURCE= $(INC) $(filter -I%,$(shell $(CC) -show)) -DREAL=$(PRECISION) -DREAL_$(PRECISION)
tidied: $(patsubst %.c,$B/%.tidy,$(sort $(wildcard src/*.c src/*/*.c)))
$B/%.tidy: %.c .clang-tidy tests/analyse.h $(wildcard include/unlearn/*.h) $B/version.h
	@mkdir -p $(@D); clang-tidy --quiet $< -- $(AS_COMPILED) -include tests/analyse.h -include $B/version.h 2>$@.err \
	   || { grep error: $@.err; exit 1; }
	@mv $@.err $@

# ------------------------------------------------------------------------------------------------------- demo, bench
demo:                           # installs what is missing, then learns, forgets, measures and draws: under 3 minutes
	@$(AGAIN) deps || echo 'make demo: going on with what is installed'
	@$(AGAIN) all
	@$(AGAIN) venv
	@SHARED='$(SHARED)' PYTHON='$(VENV)/bin/python' sh inputs/demo.sh
smollm2:                        # the same with a real chat model of 135 M parameters (98 MB from the network): ten minutes
	@$(AGAIN) deps || echo 'make smollm2: going on with what is installed'
	@$(AGAIN) all
	@$(AGAIN) venv
	@VENV='$(VENV)' sh inputs/smollm2.sh
bench: $B/tests/bench $B/tests/bench_generate # speed of a training step, an effect pass, of writing; a JSON line each
	@SHARED='$(SHARED)' sh tests/bench.sh

soak:                           # 2,000 small steps with effects at each: memory and open files stay; some minutes
	@$(AGAIN) all
	@$(AGAIN) venv
	@. tests/env.sh; SHARED='$(SHARED)' $(VENV)/bin/python tests/soak.py

FUZZERS      = $(patsubst tests/fuzz_%.c,%,$(wildcard tests/fuzz_*.c))
FUZZ_SECONDS = 60
fuzz:                           # a hostile file for every reader; needs clang; FUZZ_SECONDS= for each
	@OMPI_CC=clang MPICH_CC=clang $(AGAIN) PRECISION=double B=build/fuzz FUZZ=1 \
	   CFLAGS='-O1 -g -fno-openmp -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' fuzzers
	@for f in $(FUZZERS); do mkdir -p build/fuzz/found/$$f && build/fuzz/tests/fuzz_$$f -max_total_time=$(FUZZ_SECONDS) \
	   -rss_limit_mb=2048 -timeout=10 -max_len=8192 -verbosity=1 -dict=tests/corpus/$$f.dict -artifact_prefix=build/fuzz/$$f- \
	   build/fuzz/found/$$f tests/corpus/$$f >build/fuzz/$$f.log 2>&1 || { tail -n 60 build/fuzz/$$f.log; exit 1; }; \
	   echo "fuzz: $$f: nothing found in `sed -n 's/^Done \([0-9]*\) runs.*/\1/p' build/fuzz/$$f.log` runs"; done
fuzzers: $(FUZZERS:%=$B/tests/fuzz_%)
ifdef FUZZ
$B/tests/fuzz_%: $B/tests/fuzz_%.o $B/rooms.a
	@$(SAY) 'link $@'
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS) -lgomp
endif

# -------------------------------------------------------------------------------------------------------- documents
.PHONY: references docs
$B/unlearn.1: $(EXE)            # the manual page, from the program's own tables
	@./$(EXE) --help unlearn.1 > $@.new && mv $@.new $@
references: $(EXE)              # renews docs/INPUT.md and docs/OUTPUT.md from the program's tables
	@for d in INPUT OUTPUT; do ./$(EXE) --help $$d.md > $B/$$d.md && mv $B/$$d.md docs/$$d.md || exit 1; done
docs: $(VENV)/ready             # the site in build/site: to be read with any browser, without a network
	@$(VENV)/bin/python -c 'import mkdocs, latex2mathml, ziamath' 2>/dev/null || $(VENV)/bin/pip install -q -r docs/requirements.txt
	@$(VENV)/bin/python docs/make_site.py build/site && echo 'site: build/site/index.html'

# ---------------------------------------------------------------------------------------------------- install, clean
install: all $B/unlearn.1                    # PREFIX=, DESTDIR=; the other precision: make install PRECISION=double
	install -D -m 755 $(EXE) $(DESTDIR)$(PREFIX)/bin/$(PROGRAM)
	install -D -m 644 $B/unlearn.1 $(DESTDIR)$(PREFIX)/share/man/man1/$(PROGRAM).1
	install -D -m 644 INSTALL $(DESTDIR)$(PREFIX)/share/doc/unlearn/INSTALL
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/unlearn/README.md
	for f in `find inputs jobs analysis -type f ! -path '*__pycache__*'`; do \
	  install -D -m `test -x $$f && echo 755 || echo 644` $$f $(DESTDIR)$(PREFIX)/share/unlearn/$$f || exit 1; done
	for f in LICENSE CHANGELOG.md CONTRIBUTING.md CITATION.cff `find docs -type f ! -path '*__pycache__*'`; do \
	  install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/doc/unlearn/$$f || exit 1; done
dist:                           # build/dist/unlearn-VERSION.tar.gz: what is committed; builds and tests without git
	@test -e .git || { echo 'make dist: there is no git repository here to take the files from'; exit 1; }
	@test -z "`git status --porcelain`" || echo 'make dist: what is not committed is not in it'
	@rm -rf build/dist && mkdir -p build/dist && git describe --always >build/.commit
	git archive --format=tar.gz --prefix=unlearn-$(VERSION)/ --add-file=build/.commit -o build/dist/unlearn-$(VERSION).tar.gz HEAD
clean:                          # what was built; the virtual environment and outputs/ stay
	rm -rf build unlearn unlearn-double
help:
	@echo 'make [TARGET ...] [SETTING=VALUE ...]'
	@sed -n 's/^\([a-z0-9-]*\):.*  # \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo 'settings: PRECISION=float|double  SANITIZE=1  BLAS=openblas|mkl|blis|blas  ONEDNN=yes|no  CC=mpicc  CFLAGS=...  V=1  SHARED=../shared  PREFIX=/usr/local'
.PHONY: all tests objects tidied deps others venv transformers test test-faults lint analyse soak demo smollm2 bench install dist clean help always
.SECONDARY:
