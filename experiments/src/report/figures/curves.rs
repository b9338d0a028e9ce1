//! Lines of presses over their ratios.

use crate::report::{Comparison, Row};

/// What is drawn against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Accuracy against the fraction removed.
    Ratio,
    /// Accuracy against the bytes of the cache.
    Bytes,
    /// Seconds of an answer against the fraction removed.
    Seconds,
}

/// A point with its interval: x, y, low, high.
pub type Point = (f64, f64, f64, f64);

/// One press.
pub struct Series {
    /// Its label.
    pub label: String,
    /// By x.
    pub points: Vec<Point>,
}

/// Lines in one pair of axes.
pub struct Curves {
    /// What the axes are.
    pub axis: Axis,
    /// The presses.
    pub series: Vec<Series>,
    /// The uncompressed run.
    pub baseline: Option<Point>,
    /// Right end of the x axis.
    pub x_max: f64,
    /// Upper end of the y axis, the same in all figures of a comparison.
    pub y_max: f64,
}

impl Curves {
    /// The lines of some presses.
    pub fn of(table: &Comparison, axis: Axis, presses: &[&str]) -> Self {
        let point = |row: &Row| {
            let estimate = row.estimate?;
            let x = if axis == Axis::Bytes { row.means.cache_bytes } else { row.means.achieved_ratio };
            let seconds = row.means.decode_s;
            Some(match axis {
                Axis::Seconds => (x, seconds, seconds, seconds),
                _ => (x, estimate.mean, estimate.low, estimate.high),
            })
        };
        let series = |press: &&str| {
            let own = table.rows.iter().filter(|row| row.cell.press == **press);
            let mut points: Vec<Point> = own.filter_map(point).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { label: (*press).to_owned(), points }
        };
        let most = |value: fn(Point) -> f64| table.rows.iter().filter_map(point).map(value).fold(0.0, f64::max);
        Self {
            axis,
            series: presses.iter().map(series).filter(|series| !series.points.is_empty()).collect(),
            baseline: table.baseline().and_then(point),
            x_max: if axis == Axis::Bytes { most(|point| point.0) * 1.04 } else { 1.0 },
            y_max: if axis == Axis::Seconds { most(|point| point.1) * 1.1 } else { 1.0 },
        }
    }
}
