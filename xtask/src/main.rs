//! Development tasks of Ascribe.
fn main() {}
