# unlearn: build, test, install. `make help` lists the targets.
CC        = mpicc
PRECISION = float
BLAS      = openblas
OPT       = -O3 -march=native -fno-math-errno -fno-trapping-math
CFLAGS    = $(OPT) -g
SANITIZE  =
SHARED    = ../shared
PREFIX    = /usr/local

WARN      = -Wall -Wextra -Wno-unused-parameter -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
ifeq ($(SANITIZE),1)
  VARIANT = -sanitize
  SAN     = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
B         = build/$(PRECISION)$(VARIANT)
ifeq ($(PRECISION),double)
  PROGRAM = unlearn-double
else
  PROGRAM = unlearn
endif
ifeq ($(SANITIZE),1)
  EXE     = $B/$(PROGRAM)
else
  EXE     = $(PROGRAM)
endif
HDF5_PC  := $(shell for p in hdf5-openmpi hdf5-mpich hdf5; do pkg-config --exists $$p 2>/dev/null && echo $$p && break; done)
PKG       = yaml-0.1 jansson libpcre2-8 libutf8proc libxxhash zlib $(HDF5_PC)
INC       = -Iinclude $(shell pkg-config --cflags $(PKG) $(BLAS))
LIBS      = $(shell pkg-config --libs $(PKG) $(BLAS)) -lhdf5_hl -lm
COMPILE   = $(CC) -std=gnu11 $(WARN) -fopenmp $(INC) -DREAL=$(PRECISION) -DREAL_$(PRECISION) $(SAN) $(CFLAGS)
SRC       = $(sort $(wildcard src/*/*.c))
OBJ       = $(SRC:%.c=$B/%.o)
TESTS     = $(patsubst %.c,$B/%,$(sort $(wildcard tests/test_*.c)))

all: $(EXE)
$(EXE): $B/src/main.o $(OBJ)
	$(CC) -fopenmp $(SAN) $(CFLAGS) -o $@ $^ $(LIBS)
$B/%.o: %.c
	@mkdir -p $(@D)
	$(COMPILE) -MMD -MP -c -o $@ $<
$B/tests/%: $B/tests/%.o $(OBJ)
	$(CC) -fopenmp $(SAN) $(CFLAGS) -o $@ $^ $(LIBS) -lcmocka
tests: $(TESTS)
-include $(shell find $B -name '*.d' 2>/dev/null)
.PHONY: all tests
.SECONDARY:
