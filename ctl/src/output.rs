//! What goes to stdout, and in which form: a table for people, proto3 JSON or names for scripts.
//! Commands describe their rows once; progress and words go to stderr and never into a pipe.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table as Grid, presets};
use serde_json::{Value, json};

use crate::text::printable;

/// The form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people, at least two spaces apart.
    Table,
    /// One JSON object in the proto3 mapping; lists are its `items`.
    Json,
    /// One JSON object per line and item.
    Jsonl,
    /// One `kind/name` per line.
    Name,
}

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) headers: bool,
    pub(crate) quiet: bool,
}

/// One item in each of its forms.
pub(crate) struct Item {
    /// `kind/name`.
    pub(crate) name: String,
    pub(crate) json: Value,
    pub(crate) cells: Vec<String>,
}

/// A column's title and where its cells stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    Left(&'static str),
    /// For numbers.
    Right(&'static str),
}

impl Output {
    /// Prints a list.
    pub(crate) fn list(&self, columns: &[Column], items: &[Item]) -> io::Result<()> {
        match self.format {
            Format::Table => self.text(&self.table(columns, items)),
            Format::Json => {
                let items: Vec<&Value> = items.iter().map(|item| &item.json).collect();
                self.json(&json!({ "items": items }))
            }
            Format::Jsonl => items.iter().try_for_each(|item| self.text(&format!("{}\n", item.json))),
            Format::Name => items.iter().try_for_each(|item| self.text(&format!("{}\n", printable(&item.name)))),
        }
    }

    /// Prints one item; for people, the given text instead of a row.
    pub(crate) fn one(&self, item: &Item, text: &str) -> io::Result<()> {
        match self.format {
            Format::Table => self.text(text),
            Format::Json => self.json(&item.json),
            Format::Jsonl => self.text(&format!("{}\n", item.json)),
            Format::Name => self.text(&format!("{}\n", printable(&item.name))),
        }
    }

    /// Renders rows as a borderless table, empty string for no rows and no header.
    pub(crate) fn table(&self, columns: &[Column], items: &[Item]) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        let titles = columns.iter().map(|column| match column {
            Column::Left(title) | Column::Right(title) => *title,
        });
        if self.headers {
            grid.set_header(titles.collect::<Vec<_>>());
        }
        for item in items {
            grid.add_row(item.cells.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
        }
        for (i, column) in columns.iter().enumerate() {
            let Some(drawn) = grid.column_mut(i) else { continue };
            drawn.set_padding((0, 2));
            if matches!(column, Column::Right(_)) {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = grid.trim_fmt();
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// Prints a JSON document, indented.
    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        self.text(&format!("{value:#}\n"))
    }

    /// Prints text as it is; the caller has made it printable.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Tells a person on stderr what is going on; silent with `--quiet`.
    pub(crate) fn progress(&self, words: &str) {
        if !self.quiet {
            eprintln!("{}", printable(words));
        }
    }
}

/// True when a person can be asked: both the question and the answer have a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
