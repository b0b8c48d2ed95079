#!/bin/sh
# The program with another MPI and with other BLAS libraries, each where its packages are installed: it links, starts, makes two
# updates, and with MPICH runs on two processes; started by the launcher of the wrong MPI it says so.
# Only what sees those libraries is compiled anew, the rest is taken from the build that is there.
cd "$(dirname "$0")/.." || exit 2
. tests/env.sh
unset MAKEFLAGS MFLAGS MAKELEVEL
skip() { # skip TEXT
    echo "skipped: $1"
    skipped=$((skipped + 1))
}
passed=0 failed=0 skipped=0
check() { # check TEXT COMMAND...
    text=$1
    shift
    if "$@" >"$work/out" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $text: $*"
        tail -n 15 "$work/out"
    fi
}
precision=float
case " ${PRECISIONS:-float double} " in *" float "*) ;; *) precision=double ;; esac
old=build/$precision
test -z "$VARIANT" || { echo "skipped: the sanitizers' build is no other for other libraries"; exit 77; }
test -e "$old/src/main.o" || { echo "$old is not built: make"; exit 1; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

build() { # build NAME HEADERS SETTING...: makes $work/NAME/unlearn; what includes none of HEADERS is taken as it is
    name=$1 b=$work/$1
    sees=$(grep -l -E "(^|[ /])($2)\\.h" "$old"/src/*/*.d | sed 's/\.d$/.o/' | tr '\n' ' ')
    test -n "$sees" || { echo "no object of $old includes $2" >"$work/$name.log"; return 1; }
    shift 2
    set -- make -s "PRECISION=$precision" "B=$b" "EXE=$b/unlearn" CFLAGS='-O1 -Werror' "$@"
    "$@" "$b/flags" "$b/version.h" >"$work/$name.log" 2>&1 || return 1
    for file in "$old"/src/main.o "$old"/src/*/*.o; do
        case " $sees" in *" $file "*) continue ;; esac
        mkdir -p "$b/$(dirname "${file#"$old"/}")" && cp "$file" "$b/${file#"$old"/}" || return 1
    done
    "$@" -j2 "$b/unlearn" >>"$work/$name.log" 2>&1
}
built() { # built NAME HEADERS TEXT SETTING...
    name=$1 headers=$2 text=$3
    shift 3
    if build "$name" "$headers" "$@"; then passed=$((passed + 1)); return 0; fi
    failed=$((failed + 1))
    echo "FAILED: $text: make $*"
    tail -n 15 "$work/$name.log"
    return 1
}
says() { # says PATTERN COMMAND...: whose output has a line with the pattern
    pattern=$1
    shift
    "$@" >"$work/said" 2>&1
    cat "$work/said"
    grep -q -e "$pattern" "$work/said"
}
demo="inputs/demo-unlearn.yaml model.path=inputs/demo/model model.init=random output.directory=$work/run"
short="train.steps=2 optimizer.warmup_steps=0 geffect.every=1 data.forget.rows=8 geffect.risks.retain.rows=8"

# shellcheck disable=SC2086
blas() { # blas NAME LIBRARY TEXT: with BLAS=NAME the program is linked with LIBRARY and works; --version has TEXT
    built "$1" cblas "BLAS=$1" "BLAS=$1" || return
    check "BLAS=$1: is linked with $2" says "$2" ldd "$work/$1/unlearn"
    check "BLAS=$1: two updates" timeout 100 "$work/$1/unlearn" --overwrite $demo $short
    check "BLAS=$1: the log names it" says "$3" "$work/$1/unlearn" --version
}
ARCH=$(mpicc -print-multiarch)
if [ -e "/usr/include/$ARCH/blis.h" ] || [ -e /usr/include/blis/blis.h ]; then blas blis 'libblis\.so' BLIS; else
    skip "BLAS=blis: no BLIS (Debian: libblis-dev)"
fi
for name in blas blas-netlib; do
    if pkg-config --exists $name && [ -e "/usr/include/$ARCH/cblas-netlib.h" ]; then blas $name 'libblas\.so' CBLAS; else
        skip "BLAS=$name: no such package (Debian: libblas-dev)"
    fi
done

# Without oneDNN, where this program has it: nothing else is lacking, and what needs it says so.
# shellcheck disable=SC2086
onednn_absent() {
    built absent 'onednn|dnnl|blas_priv' "ONEDNN=no" ONEDNN=no || return
    check "ONEDNN=no: is not linked" sh -c "! ldd $work/absent/unlearn | grep libdnnl"
    check "ONEDNN=no: two updates" timeout 100 "$work/absent/unlearn" --overwrite $demo $short
    check "ONEDNN=no: --version says so" says '^no oneDNN$' "$work/absent/unlearn" --version
    for key in parallel.products=onednn precision=bfloat16; do
        check "ONEDNN=no: $key is refused" says "^unlearn: error: .*${key%=*}: this program was built without oneDNN: leave the key out" \
            "$work/absent/unlearn" --check $demo $key
    done
}
if [ $precision = float ] && ldd ./unlearn | grep -q libdnnl; then onednn_absent; else
    skip "ONEDNN=no: the program has no oneDNN in any case (Debian: libdnnl-dev)"
fi

# shellcheck disable=SC2086
mpich() {
    mpirun=$(dirname "$(command -v mpicc.mpich)")/mpirun.mpich
    built mpich 'mpi|hdf5|cblas' "CC=mpicc.mpich" CC=mpicc.mpich || return
    check "CC=mpicc.mpich: one MPI is linked" says libmpich ldd "$work/mpich/unlearn"
    check "CC=mpicc.mpich: no other MPI" sh -c "! ldd $work/mpich/unlearn | grep -E 'libmpi\\.so|openmpi'"
    check "CC=mpicc.mpich: two processes" says '^total .*' \
        timeout 100 "$mpirun" -np 2 "$work/mpich/unlearn" --overwrite $demo $short
    check "CC=mpicc.mpich: they were one job" grep -q 'data 2\|tensor 2' "$work/run/run.log"
    if mpirun --version | grep -q 'Open MPI\|OpenRTE'; then
        own=$PWD/unlearn
        test $precision = float || own=$PWD/unlearn-double
        check "MPICH's program, Open MPI's launcher" says '^unlearn: error: OMPI_COMM_WORLD_SIZE=2' \
            timeout 60 mpirun -np 2 "$work/mpich/unlearn" --version
        check "Open MPI's program, MPICH's launcher" says '^unlearn: error: PMI_SIZE=2' \
            timeout 60 "$mpirun" -np 2 "$own" --version
        check "one line of two processes" sh -c "[ \$(grep -c 'unlearn: error' $work/said) = 1 ]"
    else skip "the wrong launcher: mpirun is not Open MPI's"; fi
}
if command -v mpicc.mpich >/dev/null && pkg-config --exists hdf5-mpich; then mpich; else
    skip "CC=mpicc.mpich: no MPICH or no HDF5 for it (Debian: mpich libmpich-dev libhdf5-mpich-dev)"
fi

# An HDF5 that belongs to another MPI than CC is refused before anything is compiled.
mkdir "$work/pc"
for name in hdf5 hdf5-openmpi hdf5-mpich hdf5-serial; do
    printf 'Name: %s\nDescription: of both\nVersion: 1\nCflags: -I/openmpi -I/mpich\nLibs: -lhdf5\n' $name >"$work/pc/$name.pc"
done
rm "$work/pc/hdf5-openmpi.pc" "$work/pc/hdf5-mpich.pc"
check "an HDF5 of another MPI is refused" says 'pkg-config finds no HDF5 for the MPI of mpicc' \
    env "PKG_CONFIG_LIBDIR=$work/pc" make -n "B=$work/none" all
echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
[ $failed = 0 ]
