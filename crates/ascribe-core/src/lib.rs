//! The core of Ascribe: model graphs, operators, rules, traces, targets and attributions.
