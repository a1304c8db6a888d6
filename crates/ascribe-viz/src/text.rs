//! Text: the bundled fonts, measuring, line breaking and drawing.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};

use crate::canvas::{Canvas, Rgb};

static REGULAR: LazyLock<FontRef<'static>> =
    LazyLock::new(|| load(include_bytes!("../fonts/Inter-Regular.otf")));
static SEMI_BOLD: LazyLock<FontRef<'static>> =
    LazyLock::new(|| load(include_bytes!("../fonts/Inter-SemiBold.otf")));

fn load(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the bundled fonts are valid; a test loads both")
}

/// The end of text that was cut off.
const ELLIPSIS: char = '…';

/// The style of a text: size in pixels per em, weight and colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TextStyle {
    pub size: f32,
    pub bold: bool,
    pub color: Rgb,
}

impl TextStyle {
    pub const fn new(size: f32, color: Rgb) -> Self {
        Self { size, bold: false, color }
    }

    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    fn font(self) -> &'static FontRef<'static> {
        if self.bold { &SEMI_BOLD } else { &REGULAR }
    }

    /// The scale for `ab_glyph`, which measures the size of a font from ascent to descent, not by the em.
    fn scale(self) -> PxScale {
        let font = self.font();
        let em = font.units_per_em().unwrap_or(1000.0);
        PxScale::from(self.size * font.height_unscaled() / em)
    }

    /// Distance between baselines in whole pixels.
    pub fn line_height(self) -> u32 {
        (self.size * 1.35).round() as u32
    }

    /// Distance from the top of a line to its baseline.
    fn baseline(self) -> f32 {
        let font = self.font().as_scaled(self.scale());
        let leading = self.line_height() as f32 - (font.ascent() - font.descent());
        (leading / 2.0 + font.ascent()).round()
    }

    /// The glyphs of a line with their positions, and the width of the line.
    fn layout(self, text: &str) -> (Vec<(GlyphId, f32)>, f32) {
        let font = self.font().as_scaled(self.scale());
        let (mut pen, mut last) = (0.0, None);
        let mut glyphs = Vec::new();
        for c in text.chars() {
            let id = font.glyph_id(if c.is_control() { ' ' } else { c });
            if let Some(last) = last {
                pen += font.kern(last, id);
            }
            glyphs.push((id, pen));
            pen += font.h_advance(id);
            last = Some(id);
        }
        (glyphs, pen)
    }

    /// The width of one line in whole pixels, with one pixel for overhanging glyphs.
    pub fn width(self, text: &str) -> u32 {
        if text.is_empty() { 0 } else { self.layout(text).1.ceil() as u32 + 1 }
    }

    /// Breaks text into at most `max_lines` lines that are no wider than `width`: at spaces and after hyphens, dashes
    /// and slashes, and within a word only if the word is too wide for a line. If the text does not fit, it ends in an
    /// ellipsis.
    pub fn wrap(self, text: &str, width: u32, max_lines: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for piece in pieces(text) {
            let whole = format!("{line}{piece}");
            if self.width(whole.trim_end()) <= width {
                line = whole;
                continue;
            }
            if !line.trim().is_empty() {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            piece.trim_start().clone_into(&mut line);
            while self.width(line.trim_end()) > width && line.chars().count() > 1 && lines.len() <= max_lines
            {
                let cut = self.prefix(&line, width);
                let rest = line.split_off(cut);
                lines.push(std::mem::replace(&mut line, rest));
            }
        }
        if !line.trim().is_empty() {
            lines.push(line.trim_end().to_owned());
        }
        if lines.len() > max_lines {
            lines.truncate(max_lines);
            if let Some(last) = lines.last_mut() {
                *last = self.ellipsise(last, width);
            }
        }
        lines
    }

    /// The length in bytes of the longest prefix of `text`, of at least one character, that is no wider than `width`.
    fn prefix(self, text: &str, width: u32) -> usize {
        let ends = text.char_indices().skip(1).map(|(i, _)| i).chain([text.len()]);
        let mut best = text.chars().next().map_or(0, char::len_utf8);
        for end in ends {
            if self.width(&text[..end]) > width {
                break;
            }
            best = end;
        }
        best
    }

    /// Shortens a line so that it fits with an ellipsis.
    fn ellipsise(self, line: &str, width: u32) -> String {
        let mut kept = line.trim_end().to_owned();
        loop {
            let candidate = format!("{}{ELLIPSIS}", kept.trim_end());
            if self.width(&candidate) <= width || kept.pop().is_none() {
                return candidate;
            }
        }
    }

    /// Draws one line with the top left corner at (x, y).
    pub fn draw(self, canvas: &mut Canvas, text: &str, x: f32, y: f32) {
        let font = self.font();
        let baseline = y.round() + self.baseline();
        for (id, pen) in self.layout(text).0 {
            let glyph = id.with_scale_and_position(self.scale(), point(x + pen, baseline));
            if let Some(outline) = font.outline_glyph(glyph) {
                let corner = outline.px_bounds().min;
                outline.draw(|dx, dy, cover| {
                    canvas.blend(corner.x as i32 + dx as i32, corner.y as i32 + dy as i32, self.color, cover);
                });
            }
        }
    }
}

/// The parts of a text between possible line breaks, each with the space, hyphen, dash or slash that ends it. Line
/// breaks count as spaces.
fn pieces(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let c = if c.is_whitespace() && c != '\u{a0}' { ' ' } else { c };
        if let Some(piece) = out.last_mut() {
            piece.push(c);
        }
        let next_breaks = chars.peek().is_some_and(|n| !n.is_whitespace());
        if matches!(c, ' ' | '-' | '/' | '–' | '—') && next_breaks {
            out.push(String::new());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::canvas::{INK, PAPER};

    const STYLE: TextStyle = TextStyle::new(13.0, INK);

    #[test]
    fn both_fonts_load_and_know_the_signs_that_captions_use() {
        for style in [STYLE, STYLE.bold()] {
            for c in "Aé×−·…≥|¹⁵°ΔΣ’“ő→%".chars() {
                assert_ne!(style.font().glyph_id(c).0, 0, "no glyph for {c}");
            }
        }
    }

    #[test]
    fn kerning_is_read() {
        let apart = STYLE.layout("A").1 + STYLE.layout("V").1;
        assert!(STYLE.layout("AV").1 < apart - 0.3);
    }

    #[test]
    fn text_breaks_at_spaces_and_hyphens_and_ends_in_an_ellipsis() {
        let wide = STYLE.width("Egyptian cat");
        assert_eq!(STYLE.wrap("Egyptian cat", wide, 2), ["Egyptian cat"]);
        assert_eq!(STYLE.wrap("Egyptian cat", wide - 1, 2), ["Egyptian", "cat"]);
        assert_eq!(
            STYLE.wrap("Black-footed ferret", STYLE.width("Black-footed"), 2),
            ["Black-footed", "ferret"]
        );
        let cut = STYLE.wrap("Egyptian cat", wide - 1, 1);
        assert!(cut[0].ends_with('…') && cut.len() == 1, "{cut:?}");
        assert!(STYLE.wrap("", 50, 2).is_empty());
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        #[test]
        fn wrapped_lines_fit_and_lose_nothing_but_spaces(text in "\\PC{0,60}", width in 40u32..300) {
            let lines = STYLE.wrap(&text, width, 200);
            for line in &lines {
                prop_assert!(STYLE.width(line) <= width || line.chars().count() == 1, "{line:?}");
            }
            let squeeze = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(squeeze(&lines.concat()), squeeze(&text));
            for line in STYLE.wrap(&text, width, 2) {
                prop_assert!(STYLE.width(&line) <= width, "{line:?}");
            }
        }

        #[test]
        fn ink_stays_in_the_box(text in "[ -~]{1,20}", bold: bool) {
            let style = if bold { STYLE.bold() } else { STYLE };
            let (w, h) = (style.width(&text) + 20, style.line_height() + 20);
            let mut canvas = Canvas::new(w, h).unwrap();
            style.draw(&mut canvas, &text, 10.0, 10.0);
            let image = canvas.into_image();
            for (x, y, p) in image.enumerate_pixels() {
                // Single glyphs such as j may extend two pixels to the side.
                let inside = (8..w - 8).contains(&x) && (10..h - 10).contains(&y);
                prop_assert!(inside || p.0 == PAPER, "ink at {x}, {y} of {text:?}");
            }
        }
    }
}
