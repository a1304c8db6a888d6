//! The command line of Ascribe.
fn main() {}
