//! Black-box tests of the real binaries; see `tests/it`.
