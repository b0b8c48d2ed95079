#!/bin/sh
# What leaves the source: `make install` into a DESTDIR, whose inputs/demo.sh works from anywhere with the installed program; the
# tarball of `make dist`, which holds what is committed and builds without git; one version everywhere. Objects are taken from
# the build that is there, but for those that name the version.
cd "$(dirname "$0")/.." || exit 2
unset MAKEFLAGS MFLAGS MAKELEVEL
test -z "$VARIANT" || { echo "skipped: the sanitizers' build is not installed"; exit 77; }
precision=float program=unlearn
case " ${PRECISIONS:-float double} " in *" float "*) ;; *) precision=double program=unlearn-double ;; esac
test -e "build/$precision/src/main.o" || { echo "build/$precision is not built: make"; exit 1; }
PYTHON=$PWD/${VENV:-.venv}/bin/python
case $VENV in /*) PYTHON=$VENV/bin/python ;; esac
version=$(sed -n 's/^VERSION *= *//p' Makefile)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
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
skip() { # skip TEXT
    echo "skipped: $1"
    skipped=$((skipped + 1))
}
says() { # says PATTERN COMMAND...
    pattern=$1
    shift
    "$@" >"$work/said" 2>&1
    cat "$work/said"
    grep -q -e "$pattern" "$work/said"
}
bare() { env -i "PATH=$PATH" "HOME=$HOME" "PYTHON=$PYTHON" "$@"; } # nothing of tests/env.sh

# ------------------------------------------------------------------------------------------------------- make install
root=$work/root
check "make install" make -s install "PRECISION=$precision" "DESTDIR=$root" PREFIX=/usr
check "the installed program runs" says "^unlearn $version (" bare "$root/usr/bin/$program" --version
for file in doc/unlearn/README.md doc/unlearn/LICENSE doc/unlearn/docs/TEMPLATES.md unlearn/inputs/demo/model/config.json \
    unlearn/jobs/slurm.sh doc/unlearn/CHANGELOG.md "man/man1/$program.1"; do
    check "it is installed: $file" test -s "$root/usr/share/$file"
done
# The demo itself takes a minute: here each of its two runs makes three updates.
mv "$root/usr/bin/$program" "$root/usr/bin/real"
cat >"$root/usr/bin/unlearn" <<END
#!/bin/sh
exec "$root/usr/bin/real" "\$@" train.steps=3 optimizer.warmup_steps=0 geffect.every=3 geffect.risks.retain.rows=4
END
chmod 755 "$root/usr/bin/unlearn"
mkdir "$work/user"
demo() { (cd "$work/user" && bare timeout 200 sh "$root/usr/share/unlearn/inputs/demo.sh" </dev/null); }
if [ -x "$PYTHON" ]; then
    check "the installed demo, by somebody who has set nothing" demo
    result=$work/user/unlearn-work/outputs/demo-unlearn/geffect.h5
    check "its result is in the directory of whom has called it" test -s "$result"
    check "its files name the version" "$PYTHON" -c 'import sys, h5py
value = h5py.File(sys.argv[1]).attrs["version"]
sys.exit((value.decode() if isinstance(value, bytes) else value) != sys.argv[2])' "$result" "$version"
    check "its log names the version" grep -q "^unlearn $version (" "$work/user/unlearn-work/outputs/demo-unlearn/run.log"
    check "nothing is written beside the installed inputs" \
        sh -c "test -z \"\$(find $root/usr/share/unlearn -newer $result; find $root -name outputs)\""
else skip "the installed demo: no Python packages: make venv"; fi
printf '#!/bin/sh\nexit 1\n' >"$work/python" # one without packages
chmod 755 "$work/python"
without() { (cd "$work/user" && bare "PYTHON=$work/python" sh "$root/usr/share/unlearn/inputs/demo.sh" </dev/null); }
check "without Python's packages it says so" says 'pip install .*/share/unlearn/analysis' without
check "without the program it says so" says 'is not there: build it' \
    bare "PROGRAM=$work/nowhere/unlearn" sh "$root/usr/share/unlearn/inputs/demo.sh"
check "and has made nothing" sh -c "! test -e unlearn-work"

# ---------------------------------------------------------------------------------------------------------- make dist
tarball=build/dist/unlearn-$version.tar.gz top=$work/unlearn-$version
if [ -e .git ] && git rev-parse HEAD >/dev/null 2>&1; then
    check "make dist" make -s dist
    check "it unpacks" tar xzf "$tarball" -C "$work"
    git ls-tree -r --name-only HEAD | sort >"$work/committed"
    (cd "$top" && find . ! -type d ! -name .commit | sed 's,^\./,,' | sort) >"$work/packed"
    check "it holds what is committed, no more" diff "$work/committed" "$work/packed"
    check "its flags" make -s -C "$top" "PRECISION=$precision" CFLAGS=-O1 "build/$precision/flags" "build/$precision/version.h"
    for file in build/"$precision"/src/main.o build/"$precision"/src/*/*.o; do
        source=${file#build/"$precision"/} source=${source%.o}.c
        if grep -q 'version\.h' "${file%.o}.d" || ! cmp -s "$source" "$top/$source"; then continue; fi
        mkdir -p "$top/$(dirname "$file")" && cp "$file" "$top/$file"
    done
    check "it builds" make -s -j2 -C "$top" "PRECISION=$precision" CFLAGS=-O1 all
    check "its program names version and commit" says "^unlearn $version ($(cat build/.commit))" "$top/$program" --version
    check "its demo is understood" says '^digest: ' \
        sh -c "cd $top && ./$program --check inputs/demo-unlearn.yaml model.path=inputs/demo/model model.init=random"
    check "a test of it builds" make -s -C "$top" "PRECISION=$precision" CFLAGS=-O1 "build/$precision/tests/test_core_basics"
    check "and runs" sh -c "cd $top && PRECISIONS=$precision SHARED=$work/none sh tests/run.sh test_core_basics"
    check "it cannot make another one" says 'no git repository' sh -c "cd $top && GIT_CEILING_DIRECTORIES=$work make dist"
else skip "make dist: no git repository"; fi

# -------------------------------------------------------------------------------------------------------- one version
check "analysis/pyproject.toml has the version of the Makefile" grep -qx "version = \"$version\"" analysis/pyproject.toml
check "the recipe for Spack" python3 tests/spack_recipe.py "$version"
echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
[ $failed = 0 ]
