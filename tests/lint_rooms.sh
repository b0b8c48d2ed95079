#!/bin/sh
# Holds the code to src/ROOMS: which room includes which, private headers, and who alone calls MPI, BLAS, HDF5, libyaml.
#     lint_rooms.sh [DIRECTORY]      the project's directory; prints each difference as FILE:LINE: ..., exit status 1
cd "${1:-.}" || exit 2
test -r src/ROOMS || { echo "lint_rooms: src/ROOMS is not there"; exit 2; }
awk '
function trim(s) { gsub(/^[ \t]+|[ \t]+$/, "", s); return s }
function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }

# The room of a file: the directory below src/, the name of a header, or main.c.
function room_of(file,    part, n) {
    n = split(file, part, "/")
    if (part[1] == "src") return part[2]
    sub(/(_priv)?\.h$/, "", part[n])
    return part[n]
}

# Code without strings, character constants and comments; in_comment goes on over lines.
function strip(s,    out, at) {
    out = ""
    while (s != "") {
        if (in_comment) {
            at = index(s, "*/")
            if (!at) return out
            s = substr(s, at + 2); in_comment = 0
        } else if (match(s, /^"(\\.|[^"\\])*"/) || match(s, /^\47(\\.|[^\47\\])*\47/)) {
            s = substr(s, RLENGTH + 1); out = out " "
        } else if (substr(s, 1, 2) == "/*") {
            s = substr(s, 3); in_comment = 1
        } else if (substr(s, 1, 2) == "//") {
            return out
        } else if (match(s, /^[A-Za-z0-9_]+/)) {
            out = out substr(s, 1, RLENGTH); s = substr(s, RLENGTH + 1)
        } else {
            out = out substr(s, 1, 1); s = substr(s, 2)
        }
    }
    return out
}

FILENAME == "src/ROOMS" {
    if ($0 ~ /^#/ || $0 !~ /:/) next
    split($0, field, ":")
    room = trim(field[1]); order[room] = ++n_room
    n = split(trim(field[2]), word, /[ \t]+/)
    for (i = 1; i <= n; i++) may[room, word[i]] = 1
    may[room, room] = may[room, "core"] = 1
    n = split(trim(field[3]), word, /[ \t]+/)
    for (i = 1; i <= n; i++) if (word[i] != "") { prefix[word[i]] = 1; calls[room, word[i]] = 1 }
    next
}
FNR == 1 {
    in_comment = 0
    room = room_of(FILENAME)
    if (!(room in order)) complain("there is no room " room " in src/ROOMS")
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    target = $0
    sub(/^[^"<]*["<]/, "", target); sub(/[">].*/, "", target)
    if (target !~ /^unlearn\//) {
        if ($0 ~ /include[ \t]*"/ && target ~ /\//) complain("includes \"" target "\": only \"unlearn/...\" crosses rooms")
    } else {
        private = target ~ /_priv\.h$/
        sub(/^unlearn\//, "", target); sub(/(_priv)?\.h$/, "", target)
        if (!(target in order)) complain("includes the header of " target ", which is no room")
        else if (private && target != room) complain("room " room " includes the private header of " target)
        else if (!((room, target) in may)) complain("room " room " may not include " target)
        else if (order[target] < order[room]) complain("room " room " includes " target ", which stands above it")
    }
}
{
    code = strip($0)
    while (match(code, /[A-Za-z_][A-Za-z0-9_]*/)) {
        name = substr(code, RSTART, RLENGTH); code = substr(code, RSTART + RLENGTH)
        for (p in prefix) if (index(name, p) == 1 && length(name) > length(p) && !((room, p) in calls))
            complain("room " room " uses " name ": src/ROOMS leaves " p " to others")
    }
}
END {
    if (!n_room) { print "src/ROOMS: no room found"; bad++ }
    exit bad > 0
}' src/ROOMS $(find src include/unlearn -name '*.[ch]' | sort)
