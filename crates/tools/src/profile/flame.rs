//! Flame graphs: one SVG that a browser opens, with its search and zoom.

use std::io::Cursor;

use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::{differential, flamegraph};

use super::Folded;
use crate::error::{Error, Result};

/// What stands around the picture.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flame {
    /// Above it.
    pub title: String,
    /// Below the title; empty: nothing.
    pub subtitle: String,
    /// What weights are: `samples`, `us`.
    pub unit: String,
}

impl Flame {
    /// Draws a run.
    ///
    /// # Errors
    /// There are no stacks.
    pub fn draw(&self, folded: &Folded) -> Result<Vec<u8>> {
        let mut options = self.options();
        options.colors = Palette::Multi(MultiPalette::Java);
        let text = folded.to_string();
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, text.lines(), &mut svg).map_err(failed)?;
        Ok(svg)
    }

    /// Draws a run by its widths, and what has changed since an earlier one by its colours: red has grown, blue has shrunk. The earlier one
    /// is scaled to the same sum.
    ///
    /// # Errors
    /// One of them has no stacks.
    pub fn draw_since(&self, folded: &Folded, before: &Folded) -> Result<Vec<u8>> {
        let options = differential::Options { normalize: true, strip_hex: false };
        let (before, after) = (before.to_string(), folded.to_string());
        let mut both = Vec::new();
        differential::from_readers(options, Cursor::new(before), Cursor::new(after), &mut both).map_err(failed)?;
        let mut svg = Vec::new();
        flamegraph::from_reader(&mut self.options(), Cursor::new(both), &mut svg).map_err(failed)?;
        Ok(svg)
    }

    fn options(&self) -> flamegraph::Options<'static> {
        let mut options = flamegraph::Options::default();
        options.title.clone_from(&self.title);
        options.subtitle = (!self.subtitle.is_empty()).then(|| self.subtitle.clone());
        options.count_name.clone_from(&self.unit);
        // The same profile gives the same picture.
        options.deterministic = true;
        options
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Output { what: "flame graph", why: error.to_string() }
}
