//! Drawing with plotters. Colours are few and fixed, so that the page's style sheet can exchange them by name.

use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use pressroom::{Error, Result};

use super::curves::{Axis, Curves, Series};
use super::heatmap::Heatmap;
use super::{Drawing, Figure};
use crate::table::bytes;

/// Text.
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
/// Axes and their numbers.
const MUTED: RGBColor = RGBColor(0x65, 0x6d, 0x76);
/// Lines behind the data, and cells without any.
const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);
/// The presses of a figure, readable on white and on black.
const PALETTE: [RGBColor; super::TOGETHER] = [
    RGBColor(0x2f, 0x7e, 0xd8),
    RGBColor(0xe0, 0x7b, 0x1f),
    RGBColor(0x2c, 0xa0, 0x5a),
    RGBColor(0xd1, 0x49, 0x5b),
    RGBColor(0x8e, 0x6b, 0xbf),
    RGBColor(0x17, 0x95, 0xa0),
];
/// Width of a figure.
const WIDTH: u32 = 600;
/// Height of one with axes.
const HEIGHT: u32 = 316;
/// Height of a heading, which files have and pages give themselves.
const HEAD: i32 = 26;
/// Height of a press in a heatmap.
const ROW: u32 = 22;
/// Letters of a label that fit beside a figure.
const LABEL: usize = 26;

type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = std::result::Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn size(figure: &Figure, paper: bool) -> (u32, u32) {
    let height = match &figure.drawing {
        Drawing::Curves(_) => HEIGHT,
        Drawing::Heatmap(heatmap) => ROW * heatmap.rows.len() as u32 + 54,
    };
    (WIDTH, height + if paper { HEAD as u32 } else { 0 })
}

/// SVG text, on white or on nothing.
pub fn svg(figure: &Figure, paper: bool) -> Result<String> {
    fonts();
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size(figure, paper)).into_drawing_area();
    draw(&area, figure, paper, 1.0).and_then(|()| area.present()).map_err(|error| undrawn(figure, &error))?;
    drop(area);
    Ok(text)
}

/// A PNG file of twice the size.
pub fn png(figure: &Figure, path: &Path) -> Result<()> {
    fonts();
    let (width, height) = size(figure, true);
    let area = BitMapBackend::new(path, (2 * width, 2 * height)).into_drawing_area();
    draw(&area, figure, true, 2.0).and_then(|()| area.present()).map_err(|error| undrawn(figure, &error))
}

fn undrawn(figure: &Figure, error: &impl std::fmt::Display) -> Error {
    Error::input(format!("figure {}: {error}", figure.name))
}

/// The font that measures text, and that PNG files are written in.
fn fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for style in [FontStyle::Normal, FontStyle::Bold] {
            // A font that cannot be read leaves figures without text, which drawing then says.
            let _ = register_font("sans-serif", style, epaint_default_fonts::UBUNTU_LIGHT);
        }
    });
}

fn draw<B: DrawingBackend>(area: &Area<B>, figure: &Figure, paper: bool, scale: f64) -> Drawn<B> {
    if paper {
        area.fill(&WHITE)?;
    }
    let pen = Pen { area, scale, head: if paper { HEAD } else { 0 } };
    if paper {
        pen.text(&figure.caption(), (10, 8), 15.0, &INK, Pos::new(HPos::Left, VPos::Top))?;
    }
    match &figure.drawing {
        Drawing::Curves(curves) => draw_curves(&pen, curves),
        Drawing::Heatmap(heatmap) => draw_heatmap(&pen, heatmap),
    }
}

/// Draws in the measures of an unscaled figure.
struct Pen<'a, B: DrawingBackend> {
    area: &'a Area<B>,
    scale: f64,
    /// Room for the heading.
    head: i32,
}

impl<B: DrawingBackend> Pen<'_, B> {
    fn px(&self, length: i32) -> i32 {
        (f64::from(length) * self.scale).round() as i32
    }

    fn style(&self, size: f64, color: &RGBColor) -> TextStyle<'static> {
        ("sans-serif", size * self.scale).into_font().color(color)
    }

    fn text(&self, text: &str, at: (i32, i32), size: f64, color: &RGBColor, anchor: Pos) -> Drawn<B> {
        self.area.draw(&Text::new(text.to_owned(), (self.px(at.0), self.px(at.1)), self.style(size, color).pos(anchor)))
    }

    fn rectangle(&self, from: (i32, i32), to: (i32, i32), color: &RGBColor) -> Drawn<B> {
        let corners = [(self.px(from.0), self.px(from.1)), (self.px(to.0), self.px(to.1))];
        self.area.draw(&Rectangle::new(corners, color.filled()))
    }
}

fn draw_curves<B: DrawingBackend>(pen: &Pen<'_, B>, curves: &Curves) -> Drawn<B> {
    let stroke = |color: &RGBColor, width: f64| color.stroke_width((width * pen.scale) as u32);
    let mut chart = ChartBuilder::on(pen.area)
        .margin_top(pen.px(12 + pen.head))
        .margin_left(pen.px(8))
        .margin_bottom(pen.px(8))
        .margin_right(pen.px(188))
        .x_label_area_size(pen.px(44))
        .y_label_area_size(pen.px(52))
        .build_cartesian_2d(0.0..curves.x_max, 0.0..curves.y_max)?;
    let (x_desc, y_desc) = match curves.axis {
        Axis::Ratio => ("fraction removed", "accuracy"),
        Axis::Bytes => ("bytes of the cache", "accuracy"),
        Axis::Seconds => ("fraction removed", "seconds"),
    };
    let x_text = |x: &f64| if curves.axis == Axis::Bytes { bytes(*x as u128) } else { format!("{x:.2}") };
    let digits = if curves.y_max < 0.2 { 3 } else { 2 };
    let y_text = |y: &f64| match curves.axis {
        Axis::Seconds => format!("{y:.digits$}"),
        _ => format!("{:.0} %", 100.0 * y),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(MUTED)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .x_desc(x_desc)
        .y_desc(y_desc)
        .label_style(pen.style(13.0, &MUTED))
        .axis_desc_style(pen.style(13.0, &INK))
        .draw()?;
    let mut ends = Vec::new();
    if let Some((_, y, low, high)) = curves.baseline {
        let band = [(0.0, low), (curves.x_max, high)];
        chart.draw_series([Rectangle::new(band, MUTED.mix(0.12).filled())])?;
        chart.draw_series([PathElement::new(vec![(0.0, y), (curves.x_max, y)], stroke(&MUTED, 1.5))])?;
        ends.push(("uncompressed".to_owned(), chart.backend_coord(&(curves.x_max, y)), MUTED));
    }
    let colored: Vec<(&Series, RGBColor)> = curves.series.iter().zip(PALETTE).collect();
    for (series, color) in colored.iter().filter(|_| curves.axis != Axis::Seconds) {
        let upper = series.points.iter().map(|&(x, _, _, high)| (x, high));
        let lower = series.points.iter().rev().map(|&(x, _, low, _)| (x, low));
        chart.draw_series([Polygon::new(upper.chain(lower).collect::<Vec<_>>(), color.mix(0.1))])?;
    }
    for (place, (series, color)) in colored.iter().enumerate() {
        // A little aside of each other, so that equal presses are all seen.
        let aside = (place as f64 - (colored.len() - 1) as f64 / 2.0) * 0.006 * curves.x_max;
        let line: Vec<(f64, f64)> = series.points.iter().map(|&(x, y, ..)| (x + aside, y)).collect();
        chart.draw_series([PathElement::new(line.clone(), stroke(color, 2.0))])?;
        chart.draw_series(line.iter().map(|&at| Circle::new(at, pen.px(3), color.filled())))?;
        // Labels stand to the right, at the height of the highest ratio.
        let end = if curves.axis == Axis::Bytes { line.first() } else { line.last() };
        if let Some(&(_, y)) = end {
            ends.push((series.label.clone(), chart.backend_coord(&(curves.x_max, y)), *color));
        }
    }
    draw_labels(pen, ends)
}

/// Labels beside the figure, each at its line's height or as near as there is room.
fn draw_labels<B: DrawingBackend>(pen: &Pen<'_, B>, mut ends: Vec<(String, (i32, i32), RGBColor)>) -> Drawn<B> {
    let step = pen.px(17);
    ends.sort_by_key(|(_, (_, y), _)| *y);
    let lowest = pen.px(HEIGHT as i32 - 60 + pen.head);
    let mut heights: Vec<i32> = ends.iter().map(|(_, (_, y), _)| *y).collect();
    for index in 1..heights.len() {
        heights[index] = heights[index].max(heights[index - 1] + step);
    }
    let mut most = lowest;
    for height in heights.iter_mut().rev() {
        *height = (*height).min(most);
        most = *height - step;
    }
    for ((label, (x, _), color), y) in ends.iter().zip(heights) {
        pen.area.draw(&Circle::new((x + pen.px(14), y), pen.px(4), color.filled()))?;
        let style = pen.style(12.0, &INK).pos(Pos::new(HPos::Left, VPos::Center));
        pen.area.draw(&Text::new(shortened(label), (x + pen.px(24), y), style))?;
    }
    Ok(())
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(LABEL) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label.to_owned(),
    }
}

/// From none right to all right.
const SHADES: [RGBColor; 6] = [
    RGBColor(0x44, 0x1f, 0x5e),
    RGBColor(0x41, 0x44, 0x87),
    RGBColor(0x2a, 0x78, 0x8e),
    RGBColor(0x22, 0xa8, 0x84),
    RGBColor(0x7a, 0xd1, 0x51),
    RGBColor(0xf0, 0xdf, 0x25),
];

fn shade(score: f64) -> RGBColor {
    SHADES[(score.clamp(0.0, 1.0) * (SHADES.len() - 1) as f64).round() as usize]
}

fn draw_heatmap<B: DrawingBackend>(pen: &Pen<'_, B>, heatmap: &Heatmap) -> Drawn<B> {
    let (left, top, gap) = (186, 24 + pen.head, 8);
    let blocks = heatmap.lengths.len() as i32;
    let cell = ((WIDTH as i32 - left - 10 - gap * (blocks - 1)) / (10 * blocks)).max(2);
    let block = |index: i32| left + index * (10 * cell + gap);
    for (index, length) in heatmap.lengths.iter().enumerate() {
        let x = block(index as i32);
        let head = format!("{length} tokens, start to end");
        pen.text(&head, (x, top - 6), 12.0, &MUTED, Pos::new(HPos::Left, VPos::Bottom))?;
    }
    for (row, (label, lengths)) in heatmap.rows.iter().enumerate() {
        let y = top + row as i32 * ROW as i32;
        let middle = y + ROW as i32 / 2;
        pen.text(&shortened(label), (left - 10, middle), 12.0, &INK, Pos::new(HPos::Right, VPos::Center))?;
        for (index, depths) in lengths.iter().enumerate() {
            for (depth, score) in depths.iter().enumerate() {
                let x = block(index as i32) + depth as i32 * cell;
                let color = score.map_or(GRID, shade);
                pen.rectangle((x, y + 1), (x + cell - 1, y + ROW as i32 - 1), &color)?;
            }
        }
    }
    let y = top + heatmap.rows.len() as i32 * ROW as i32 + 12;
    for (index, color) in SHADES.iter().enumerate() {
        let x = left + index as i32 * 24;
        pen.rectangle((x, y), (x + 24, y + 10), color)?;
    }
    pen.text("0 %", (left - 6, y + 5), 12.0, &MUTED, Pos::new(HPos::Right, VPos::Center))?;
    pen.text("100 % right", (left + 150, y + 5), 12.0, &MUTED, Pos::new(HPos::Left, VPos::Center))
}
