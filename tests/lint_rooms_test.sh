#!/bin/sh
# lint_rooms.sh passes this project and finds each kind of violation, put into a copy of it.
here=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d) || exit 1
trap 'rm -rf "$copy"' EXIT
passed=0 failed=0

verdict() { # verdict 0|1 TEXT
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi
}

fresh() {
    rm -rf "$copy/src" "$copy/include"
    cp -R "$here/src" "$here/include" "$copy"
}

with() { # with FILE TEXT: $said = what the lint says of a copy with TEXT added to FILE
    fresh
    mkdir -p "$copy/$(dirname "$1")"
    printf '%s\n' "$2" >>"$copy/$1"
    said=$(sh "$here/tests/lint_rooms.sh" "$copy")
}

finds() { # finds FILE TEXT MESSAGE: the lint fails, and names FILE and MESSAGE
    with "$1" "$2"
    test $? = 1 && echo "$said" | grep -q "^$1:[0-9]*: .*$3"
    verdict $? "$2 in $1: the lint said: $said"
}

lets() { # lets FILE TEXT
    with "$1" "$2"
    verdict $? "$2 in $1: the lint said: $said"
}

sh "$here/tests/lint_rooms.sh" "$here"
verdict $? "the project itself"
finds src/math/extra.c '#include "unlearn/parallel.h"' 'math may not include parallel'
finds src/core/extra.c '#include "unlearn/math.h"' 'core may not include math'
finds src/main.c '#include "unlearn/model.h"' 'main.c may not include model'
finds include/unlearn/data.h '#include "unlearn/model.h"' 'data may not include model'
finds src/task/extra.c '#include "unlearn/math_priv.h"' 'private header of math'
finds src/task/extra.c '#include "../math/kernel.h"' 'only "unlearn/..." crosses rooms'
finds src/cellar/extra.c '#include "unlearn/core.h"' 'no room cellar'
finds src/math/extra.c '#include "unlearn/cellar.h"' 'cellar, which is no room'
finds src/geffect/extra.c 'static int f(void) { return MPI_Barrier(0); }' 'geffect uses MPI_Barrier'
finds src/model/extra.c 'static void f(void) { cblas_sgemm(); }' 'model uses cblas_sgemm'
finds src/task/extra.c 'static void f(void) { openblas_set_num_threads(1); }' 'task uses openblas_set_num_threads'
finds src/config/extra.c 'static hid_t f(void) { return H5Fcreate(); }' 'config uses H5Fcreate'
finds src/core/extra.c '/* one */ static yaml_parser_t parser; // two' 'core uses yaml_parser_t'
lets src/math/extra.c '/* MPI_Barrier and H5Fcreate
   in a comment */ static const char *s = "yaml_parser \" MPI_Send"; // cblas'
lets src/output/extra.c '#include "unlearn/output_priv.h"
static int f(void) { return MPI_Barrier(0); }'
lets src/math/extra.c '#include "kernel.h"'
fresh
sed -i 's/^core  /core : math : \n#/' "$copy/src/ROOMS"
printf '#include "unlearn/math.h"\n' >"$copy/src/core/extra.c"
said=$(sh "$here/tests/lint_rooms.sh" "$copy")
test $? = 1 && echo "$said" | grep -q 'stands above it'
verdict $? "a cycle written into src/ROOMS: the lint said: $said"

echo "$passed passed, $failed failed"
test "$failed" = 0
