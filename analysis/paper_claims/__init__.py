"""The claims of arXiv 2502.19301 held against the runs of inputs/claims.sh; analysis/paper-claims starts it."""
