//! Pictures of attributions: heatmaps, overlays, grids, colour bars, HTML reports.
