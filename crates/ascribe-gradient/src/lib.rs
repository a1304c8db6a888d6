//! Gradient and rule-based attribution methods of Ascribe.
