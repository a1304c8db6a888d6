//! Evaluation metrics for attributions: localisation, faithfulness, randomisation, axioms.
