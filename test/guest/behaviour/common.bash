# Shared by the tests in this folder: $exo, a work folder, and expectations that name what differed.

set -u
exo=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}
# expect WHAT ACTUAL EXPECTED
expect() { [[ $2 == "$3" ]] || fail "$1: '$2', not '$3'"; }
# expect_match WHAT ACTUAL REGULAR_EXPRESSION
expect_match() { [[ $2 =~ $3 ]] || fail "$1: '$2' does not match '$3'"; }
finish() { exit "$failed"; }
