//! Draws one picture of each kind and a report: `cargo run -p ascribe-viz --example pictures -- [PHOTO] [FOLDER]`.
//!
//! The maps are artificial (two bumps of opposite sign); in real use they would be the attributions of a method.

use std::path::PathBuf;

use ascribe_viz::report::{Claim, Column, Figure, Report, Section, Table};
use ascribe_viz::{About, Grid, GridRow, Heatmap, Overlay, Plot, Region, Series};

/// Two bumps on a square grid: evidence for the target at the centre, and against it at the lower right.
fn bumps(side: usize, signed: bool) -> Result<Heatmap, ascribe_viz::Error> {
    let bump =
        |x: f64, y: f64, cx: f64, cy: f64, width: f64| (-((x - cx).powi(2) + (y - cy).powi(2)) / width).exp();
    let values = (0..side * side).map(|i| {
        let (x, y) = ((i % side) as f64 / side as f64, (i / side) as f64 / side as f64);
        let value = bump(x, y, 0.4, 0.45, 0.04) - 0.6 * bump(x, y, 0.75, 0.8, 0.02);
        if signed { value } else { value.abs() }
    });
    Heatmap::new(side, side, values.collect(), signed)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut arguments = std::env::args().skip(1);
    let photo = arguments.next().map_or_else(|| root.join("fixtures/images/cat.png"), PathBuf::from);
    let folder = arguments.next().map_or_else(|| root.join("target/pictures"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let photo = image::open(&photo)?;
    // The part of it that is the input of a network with ImageNet's preprocessing.
    let region = Region::centre_crop(photo.width(), photo.height(), 256, 224);
    let about = About::new().method("Two bumps").target("Egyptian cat (285)").probability(0.62);

    let overlay = Overlay::new(photo.clone(), bumps(28, true)?).region(region).about(about).render()?;
    overlay.save(folder.join("overlay.png"))?;

    let row = GridRow::new(photo).region(region).prediction("Egyptian cat", Some(0.62));
    let row = row.map(bumps(7, true)?).map(bumps(28, true)?).map(bumps(224, false)?);
    let grid = Grid::new(["Coarse", "Medium", "Magnitude"]).title("Three grids").row(row).render()?;
    grid.save(folder.join("grid.png"))?;

    let curve = |name: &str, rate: f64| {
        Series::new(name, (0..=50).map(|i| f64::from(i) / 50.0).map(|x| (x, 0.9 * (1.0 - (-rate * x).exp()))))
    };
    let (fast, slow) = (curve("two bumps", 9.0), curve("random order", 3.0));
    let (fast_area, slow_area) = (fast.auc(), slow.auc());
    let plot =
        Plot::new("share of pixels inserted", "probability").title("Insertion").auc(true).percent(true);
    let plot = plot.y_range(0.0, 1.0).series(fast).series(slow).render()?;
    plot.save(folder.join("insertion.png"))?;

    let table = Table::new([Column::text("order"), Column::number("insertion", 3).higher_is_better()])
        .row(["two bumps".into(), fast_area.into()])
        .row(["random order".into(), slow_area.into()]);
    let claim = Claim::new("The map orders pixels better than chance", (fast_area > slow_area).into());
    Report::new("Pictures")
        .fact("target", "Egyptian cat (285)")
        .section(Section::new("Attribution").figure(Figure::new(&overlay, "Evidence for and against.")?))
        .section(Section::new("Insertion").claim(claim).table(table).figure(Figure::new(&plot, "")?))
        .section(Section::new("Grids").figure(Figure::new(&grid, "The same map on three grids.")?))
        .save(folder.join("report.html"))?;
    println!("{}", folder.display());
    Ok(())
}
