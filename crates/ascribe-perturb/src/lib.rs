//! Perturbation-based attribution methods of Ascribe.
